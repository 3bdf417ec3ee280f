"""What is raised where numbers are none; apart from what finds them, which needs torch and Lightning."""

from __future__ import annotations

from data_tools.errors import UserError

REMEDY = "its weights hold no numbers or overflow: take another checkpoint, or --dtype float32"  # a judge's


class NotFinite(UserError):
    """A loss, a gradient, a weight or a verdict is NaN or infinite: one line that says where, and what to do."""
