from pathlib import Path

from lmms_eval.api.task import ConfigurableTask


class TaskManager:
    def __init__(self, verbosity, include_path=None, include_defaults=True):
        folders = [Path(__file__).parent] if include_defaults else []
        folders += [Path(include_path)] if include_path else []
        self.files = {file.stem: file for folder in folders for file in folder.rglob("*.yaml")}
        self.all_subtasks = list(self.files)


def get_task_dict(names, manager, task_type="simple"):
    return {name: ConfigurableTask(manager.files[name]) for name in names}
