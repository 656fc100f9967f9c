"""What a command needs of a configuration, each part built when it is first asked for.

It alone hands parts of the configuration to the stages, and one stage's result to the next. A stage
is imported when needed: most bring torch, which a mistake in settings or files should not wait for.
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svp_lightning.config import Config
from svp_lightning.data.classes import rare_classes
from svp_lightning.runtime.artifacts import ArtifactCache
from svp_lightning.runtime.terminal import say
from svp_lightning.stages.settings import SimulatedData, fresh_data

if TYPE_CHECKING:
    import torch

    from svp_lightning.data.mix import Mixture
    from svp_lightning.data.store import Store
    from svp_lightning.stages.simulated_pools import Microscopes
    from svp_lightning.stages.trainers import Trainers


class Pipeline(AbstractContextManager["Pipeline"]):
    """From a configuration to its artifacts.

    Attributes:
        config: what was asked for.
        run_dir: the run's own folder.
        cache: stage outputs, shared with other runs.
    """

    def __init__(
        self, config: Config, run_dir: Path, build: Callable[[str], list[Any]] = lambda _: []
    ) -> None:
        """``build`` makes the objects of a config group (``logger``, ``callbacks``)."""
        self.config, self.run_dir = config, run_dir
        self.cache = ArtifactCache(config.paths.artifacts, say, config.artifacts == "rebuild")
        self._build, self._made = build, dict[float, "list[Store]"]()
        self._in_fixed_order(True)

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        """End what the loggers have begun, and what holds for this configuration alone."""
        if "trainers" in self.__dict__:
            self.trainers.close(failed=error is not None)
        self._in_fixed_order(False)

    def _in_fixed_order(self, now: bool) -> None:
        """For all stages, as some compute without a trainer; nothing is imported where unasked."""
        if self.config.trainer.deterministic:
            from svp_lightning.stages.environment import refuse_changing_order

            refuse_changing_order(now)

    @cached_property
    def trainers(self) -> "Trainers":
        """Makes trainers on the run's devices."""
        from svp_lightning.stages.trainers import Trainers

        return Trainers(self.config.trainer, self._build)

    @cached_property
    def device(self) -> "torch.device":
        """Where a stage without a trainer computes."""
        from svp_lightning.stages.environment import choose_device

        return choose_device(self.config.trainer)

    @cached_property
    def store(self) -> "Store":
        """The real (or simulated) images."""
        from svp_lightning.stages.real_store import build_store

        return build_store(self.config.data, self.config.paths.own, self.cache)

    @cached_property
    def prevalence(self) -> dict[str, float]:
        """Class name -> share in the field."""
        from svp_lightning.stages.real_store import use_prevalence

        config = self.config
        return use_prevalence(config.data.prevalence, config.evaluation.prevalence, self.store)

    @cached_property
    def generator_rows(self) -> "Mixture":
        """What the generator trains on: real images of the classes that it learns."""
        settings, store = self.config.generator, self.store  # before torch, for a forecast
        from svp_lightning.stages.generator_training import generator_rows

        return generator_rows(settings, store)

    @cached_property
    def generator(self) -> Path:
        """Folder of the trained generator."""
        settings, rows = self.config.generator, self.generator_rows
        from svp_lightning.stages.generator_training import build_generator

        return build_generator(settings, rows, self.cache, self.trainers)

    @cached_property
    def feature_classifier(self) -> Path:
        """Folder of the classifier behind the feature network."""
        from svp_lightning.stages.classifier_training import build_feature_classifier

        own, shares = self.config.features, self.prevalence
        return build_feature_classifier(own, self.store, shares, self.cache, self.trainers)

    @cached_property
    def features(self) -> Path:
        """Folder of the feature network, trained on real images alone."""
        from svp_lightning.stages.classifier_training import build_features

        own, network = self.config.features, self.feature_classifier
        return build_features(own, self.store, network, self.cache, self.device)

    def wanted(self, ratio: float, factor: float = 1.0) -> dict[str, int]:
        """Class name -> generated images, for ``ratio`` per rare real one; ``factor`` times it."""
        from svp_lightning.data.mix import added_counts

        plentiful, real = self.config.augmentation.plentiful_ratio, self.store.counts("train")
        return added_counts(real, rare_classes(real), ratio * factor, plentiful * factor)

    def drawn_and_simulated(
        self, ratio: float, factor: float = 1.0
    ) -> tuple[dict[str, int], dict[str, int]]:
        """As :meth:`wanted`: of the classes that the generator draws, and of those simulated."""
        from svp_lightning.data.mix import drawn_and_simulated

        simulated = self.config.augmentation.simulated_classes
        return drawn_and_simulated(self.wanted(ratio, factor), simulated)

    def draw(self, counts: Mapping[str, int]) -> "Store":
        """A pool of so many images of each class, as the generator makes them."""
        from svp_lightning.stages.pools import build_pool, require_drawable

        require_drawable(counts, self.generator_rows.class_names)
        own, starts = (self.config.sampler, counts, self.store), None
        if self.config.sampler.start_ratio is not None:
            from svp_lightning.stages.simulated_pools import training_background

            starts = self._simulated(counts, self.microscopes, training_background(self.store))
        return build_pool(self.generator, *own, self.cache, self.trainers, starts)

    def images(self, ratio: float, factor: float = 1.0) -> "Store":
        """``factor`` times the generated images of a ratio, filtered where the arm says so."""
        own = self.config.augmentation.filter
        wanted = self.drawn_and_simulated(ratio, factor)[0]
        if own is None:
            return self.draw(wanted)
        from svp_lightning.stages.filtering import build_filtered
        from svp_lightning.stages.pools import require_drawable

        require_drawable(wanted, self.generator_rows.class_names)  # before the judge is trained

        def draw(more: float) -> "Store":
            return self.draw(self.drawn_and_simulated(ratio, factor * more)[0])

        return build_filtered(own, self.features, self.store, wanted, draw, self.cache, self.device)

    @cached_property
    def pool(self) -> "Store":
        """The images that the mix adds: generated, or simulated."""
        return self._pool()

    def _pool(self, factor: float = 1.0) -> "Store":
        arm = self.config.augmentation
        if arm.needs_generator:
            pools = self._parts(factor)
            from svp_lightning.stages.simulated_pools import join_pools

            return pools[0] if len(pools) == 1 else join_pools(pools, self.cache)
        microscopes = self.microscopes if arm.extra == "simulated" else None
        return self._simulated(self.wanted(arm.ratio, factor), microscopes)

    @cached_property
    def generated(self) -> "Store | None":
        """The images of the mix that the generator has drawn: the pool, a part of it, or none."""
        return self._parts()[0] if self.config.augmentation.needs_generator else None

    def _parts(self, factor: float = 1.0) -> "list[Store]":
        """The generated images of the pool, then the simulated ones added to them, if any."""
        if factor in self._made:  # a filter judges each time
            return self._made[factor]
        ratio = self.config.augmentation.ratio
        simulated = self.drawn_and_simulated(ratio, factor)[1]
        others = [self._simulated(simulated, self.microscopes)] if any(simulated.values()) else []
        return self._made.setdefault(factor, [self.images(ratio, factor), *others])

    @cached_property
    def microscopes(self) -> "Microscopes":
        """The other microscopes that simulated images are of."""
        from svp_lightning.stages.simulated_pools import choose_microscopes

        return choose_microscopes(self.config.augmentation, self._fresh, self.store, self.cache)

    def _simulated(
        self, counts: Mapping[str, int], of: "Microscopes | None", level: float | None = None
    ) -> "Store":
        """Simulated images of the data's instrument (None) or of others, ``level`` around them."""
        from svp_lightning.stages.simulated_pools import build_simulated_pool

        names, others = self.store.class_names, of.numbers if of else ()
        return build_simulated_pool(self._fresh, others, counts, names, self.cache, level)

    @property
    def _fresh(self) -> SimulatedData:
        config, size = self.config, self.store.image_size
        return fresh_data(config.data, config.simulation, size, config.sampler.seed)

    @cached_property
    def rows(self) -> "Mixture":
        """What the classifier trains on; what it cannot be trained with is refused first."""
        config, store, _ = self.config, self.store, self.prevalence  # before torch
        from svp_lightning.stages.classifier_training import require_trainable

        own = config.classifier, config.features, config.augmentation
        require_trainable(*own, store, config.trainer)
        return self._rows(self.store, self.pool if self.config.augmentation.needs_pool else None)

    def _rows(self, view: "Store", pool: "Store | None") -> "Mixture":
        from svp_lightning.data.mix import mix

        arm, hardest = self.config.augmentation, None
        rare = rare_classes(self.store.counts("train"))  # not the view's: the pool is of them
        if arm.hard_negatives > 0:
            from svp_lightning.stages.filtering import build_hardest

            hardest = build_hardest(self.features, view, rare, self.cache, self.device)
        return mix(view, pool, arm, self.config.seed, hardest, rare)

    @cached_property
    def classifier(self) -> Path:
        """Folder of the trained classifier."""
        return self._trained(self.rows)

    def _trained(self, rows: "Mixture") -> Path:
        from svp_lightning.classifier.validation import BEST
        from svp_lightning.stages.classifier_training import build_classifier

        own, arm, seed = self.config.classifier, self.config.augmentation, self.config.seed
        if (start := self.pretrained) is not None:
            own = own.model_copy(update={"pretrained_weights": start / BEST})
        return build_classifier(own, arm, seed, rows, self.prevalence, self.cache, self.trainers)

    @cached_property
    def pretraining_store(self) -> "Store | None":
        """The simulated images that the classifier is trained on first, if any."""
        if self.config.pretraining is None:
            return None
        from svp_lightning.stages.pretraining import build_pretraining_store

        return build_pretraining_store(self.config.pretraining, self.store.image_size, self.cache)

    @cached_property
    def pretrained(self) -> Path | None:
        """Folder of the classifier that this one starts from, if any."""
        start, images = self.config.pretraining, self.pretraining_store
        if start is None or images is None:
            return None
        from svp_lightning.stages.pretraining import build_pretrained

        return build_pretrained(start, self.config.classifier, images, self.cache, self.trainers)

    def classifier_on(self, view: "Store") -> tuple[Path, "Mixture"]:
        """A classifier of this arm on the training images of a view of the store, and its rows.

        Generator and feature network are the store's own: they have seen its training images.
        """
        pool = None
        if self.config.augmentation.needs_pool:
            own, other = self.store.counts("train"), view.counts("train")
            enlarged = self.wanted(self.config.augmentation.ratio)  # the classes that get images
            # A little more, so that the counts of the pool round to no fewer.
            pool = self._pool(max(1.0, *((other[name] + 1e-6) / own[name] for name in enlarged)))
        rows = self._rows(view, pool)
        return self._trained(rows), rows

    @cached_property
    def added_sources(self) -> dict[str, Path]:
        """Stage -> artifact behind the added images: all that was trained or drawn for them.

        Judging the pool of a filter, one forward pass per image, is no artifact and not here.
        """
        arm = self.config.augmentation
        sources = dict(self.microscopes.sources) if "matched" in arm.parts else {}
        if not arm.needs_generator:
            return sources | {"synthetic": self.pool.path}
        generated, *simulated = self._parts()
        sources |= {"generator": self.generator}
        sources |= {"simulated": simulated[0].path} if simulated else {}
        if arm.filter is None:
            return sources | {"synthetic": generated.path}
        sources |= {"network": self.feature_classifier, "features": self.features}
        from svp_lightning.stages.filtering import unfiltered

        return sources | {"filter": generated.path, "synthetic": unfiltered(generated, self.cache)}
