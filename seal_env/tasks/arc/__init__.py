"""ARC: few-shot tasks on grids of colours, their datasets, augmentations and prompts. Nothing here needs torch."""

from seal_env.tasks.arc.arc_task import ArcTask
from seal_env.tasks.arc.augment import GROUPS, Augmentation, Pair
from seal_env.tasks.arc.grid_prompts import ArcPrompts, pairs_text, read_pairs
from seal_env.tasks.arc.grids import Grid, GridText, as_grid, grid_text, read_grid
from seal_env.tasks.arc.mini import MiniArc, MiniArcConfig
from seal_env.tasks.arc.rules import KINDS, Rule, compose

__all__ = [
    "GROUPS",
    "KINDS",
    "ArcPrompts",
    "ArcTask",
    "Augmentation",
    "Grid",
    "GridText",
    "MiniArc",
    "MiniArcConfig",
    "Pair",
    "Rule",
    "as_grid",
    "compose",
    "grid_text",
    "pairs_text",
    "read_grid",
    "read_pairs",
]
