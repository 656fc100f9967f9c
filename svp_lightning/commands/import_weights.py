"""``task=import_weights``: weights of torchvision or timm as a classifier, or as a start of one."""

from pathlib import Path

from svp_lightning.classifier.packaged import WEIGHTS
from svp_lightning.errors import SettingsError
from svp_lightning.pipeline import Pipeline
from svp_lightning.runtime.files import sha256_of_file
from svp_lightning.runtime.terminal import say
from svp_lightning.stages.publishing import writing_whole
from svp_lightning.stages.weights_import import start_of, write_imported, write_start


def run(pipeline: Pipeline) -> Path:
    """Write the directory, and say which tensors are used.

    Raises:
        SettingsError: ``import_weights.file`` is not given, or a setting that would have no effect.
        CheckpointError: the file cannot be read, or is of another network.
    """
    config, given = pipeline.config, pipeline.config.import_weights
    if given.file is None:
        raise SettingsError(
            "import_weights.file is not set.", "Give a state dict (import_weights.file=….pth)."
        )
    if given.classes is None and (given.mean, given.std) != (0.5, 0.5):
        raise SettingsError(
            "import_weights.mean and std are kept with a classifier, and import_weights.classes is "
            "null: a training that starts from the weights gives them images in [-1, 1].",
            "Leave mean and std out, or name the classes.",
        )
    found = start_of(given.file, given.backbone, given.stem)
    name = f"weights_{sha256_of_file(given.file)[:12]}"
    target = given.to or config.paths.outputs / config.study / name
    with writing_whole(target) as folder:
        if given.classes is None:
            write_start(folder, found)
        else:
            write_imported(folder, found, given.file, given.classes, given)
    say(found.summary())
    if given.classes is None:
        say(f"Start from them: classifier.pretrained_weights={target / WEIGHTS}")
    else:
        say(f"Classifier: {target} (predict.run={target})")
    return target
