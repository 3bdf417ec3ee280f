"""Reading pairs: which rows, how they look in a terminal, and paging through them."""
