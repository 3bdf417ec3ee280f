"""Whoever judges pairs, behind one interface (:class:`~genrm_lightning.judges.base.Judge`): reward models, direct
judges, judges that reason, served models, files of scores. :func:`~genrm_lightning.judges.choice.judge_of` makes one.
"""
