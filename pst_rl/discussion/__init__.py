"""Further rollouts that a scheme declares: views (before the aggregate) and discussions (after it)."""

from pst_rl.discussion.base import Discussion, RolloutContext, View, check_discussion, with_discussion, with_views

__all__ = ["Discussion", "RolloutContext", "View", "check_discussion", "with_discussion", "with_views"]
