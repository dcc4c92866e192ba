"""The tasks that the engine trains, by name."""

from __future__ import annotations

from delineate.engine.object_task import ObjectTask
from delineate.engine.semantic_task import SemanticTask
from delineate.engine.task import Task
from delineate.registry import Registry

LEARNT: Registry[Task] = Registry(
    "task",
    {
        task.name: task
        for task in (
            SemanticTask(),
            ObjectTask("detection", ()),
            ObjectTask("instances", ("masks",)),
            ObjectTask("keypoints", ("keypoints",)),
        )
    },
)
