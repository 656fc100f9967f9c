"""``task=assess``: how good are the generated images, and are they copies?"""

from svp_lightning.pipeline import Pipeline
from svp_lightning.report.fidelity import fidelity_report, print_fidelity
from svp_lightning.runtime.distributed import is_main_process
from svp_lightning.runtime.terminal import say
from svp_lightning.stages.assessment import attach_fidelity, build_fidelity, require_comparable

RATIO = 1.0
"""Generated images per real one that are assessed where the configuration adds none."""


def run(pipeline: Pipeline) -> None:
    """Measure the pool of generated images; write ``fidelity.json``, figures and a page."""
    config = pipeline.config
    ratio = config.augmentation.ratio if config.augmentation.needs_generator else RATIO
    require_comparable(pipeline.store, pipeline.drawn_and_simulated(ratio)[0])
    folder = build_fidelity(
        config.assess,
        config.scale.name,
        pipeline.store,
        pipeline.generated or pipeline.images(RATIO),
        pipeline.features,
        pipeline.cache,
        pipeline.device,
    )
    if not is_main_process():
        return
    attach_fidelity(folder, pipeline.run_dir)
    page = fidelity_report(pipeline.run_dir)
    print_fidelity(pipeline.run_dir)
    if pipeline.store.image_pixel_um != pipeline.store.pixel_size_um:
        say("Sizes are in px of the stored images: some real ones were scaled down (data.fit).")
    say(f"Report: {page}")
