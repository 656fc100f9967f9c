import numpy as np
import pytest
import torch

from svp_lightning.errors import SettingsError
from svp_lightning.generator.denoiser import Denoiser
from svp_lightning.generator.drawing import (
    build_pipeline,
    interpolate,
    resolve_precision,
    sample,
    slerp,
    trajectory,
)
from svp_lightning.generator.noise import gaussian, image_seeds
from svp_lightning.generator.sampler_settings import SamplerSettings
from svp_lightning.generator.sampling import oriented
from tests import configured

NAMES = ["dpm_solver", "ddim", "ddpm"]
PINNED_SEEDS = [3770075631662096682, 4733405671058256113]


def settings(**changes: object) -> SamplerSettings:
    return configured.sampler(**{"steps": 5, "batch_size": 8} | changes)


def eight_images() -> tuple[np.ndarray, np.ndarray]:
    return np.arange(8) % 2, image_seeds(0, "oil", 0, 8)


@pytest.mark.parametrize("name", NAMES)
def test_same_seeds_give_the_same_images_and_others_do_not(denoiser: Denoiser, name: str) -> None:
    labels, seeds = eight_images()
    first = sample(denoiser, labels, seeds, settings(name=name))
    assert first.shape == (8, 16, 16)
    assert first.dtype == np.uint8
    assert np.array_equal(first, sample(denoiser, labels, seeds, settings(name=name)))
    others = sample(denoiser, labels, seeds + 1, settings(name=name))
    assert not np.array_equal(first, others)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("guidance", [1.0, 2.0])
def test_batch_order_and_company_do_not_change_an_image(
    denoiser: Denoiser, name: str, precision: str, guidance: float
) -> None:
    labels, seeds = eight_images()
    chosen = {"name": name, "precision": precision, "guidance": guidance}

    def images(rows: list[int], size: int) -> np.ndarray:
        return sample(
            denoiser, labels[rows], seeds[rows], settings(**chosen, batch_size=size)
        ).astype(int)

    together = images(list(range(8)), 8)
    for rows, size in ((list(range(8)), 1), (list(range(8)), 3), ([5, 2], 8)):
        assert np.abs(images(rows, size) - together[rows]).max() <= 1


def test_image_seeds_are_stable_distinct_and_independent_of_the_range() -> None:
    seeds = image_seeds(3, "air_bubble", 0, 100_000)
    assert len(np.unique(seeds)) == 100_000
    assert seeds.min() >= 0
    assert np.array_equal(image_seeds(3, "air_bubble", 500, 600), seeds[500:600])
    assert not np.isin(image_seeds(3, "silicone_oil", 0, 100), seeds).any()
    assert not np.isin(image_seeds(4, "air_bubble", 0, 100), seeds).any()
    # Written down once: changing the mixing would change everybody's images.
    assert image_seeds(0, "air_bubble", 0, 2).tolist() == PINNED_SEEDS


def test_noise_is_standard_normal_and_uncorrelated() -> None:
    seeds = torch.from_numpy(image_seeds(0, "oil", 0, 400))
    noise = gaussian(seeds, 0, 16, 16).double()
    assert noise.mean().abs() < 0.01
    assert noise.var() == pytest.approx(1, abs=0.02)
    assert (noise**4).mean() == pytest.approx(3, abs=0.1)
    between_pixels = torch.corrcoef(noise.flatten(1).T).fill_diagonal_(0)
    between_images = torch.corrcoef(noise.flatten(1)).fill_diagonal_(0)
    between_draws = (noise * gaussian(seeds, 1, 16, 16)).mean()
    assert between_pixels.abs().max() < 6 / 400**0.5
    assert between_images.abs().max() < 6 / 256**0.5
    assert between_draws.abs() < 0.02
    neighbours = gaussian(torch.tensor([0, 1, 2**32, 2**33]), 0, 64, 64).flatten(1)
    assert torch.corrcoef(neighbours).fill_diagonal_(0).abs().max() < 6 / 64


def test_trajectory_runs_from_noise_to_the_sampled_image(denoiser: Denoiser) -> None:
    labels, seeds = eight_images()
    noisy, clean = trajectory(denoiser, labels, seeds, settings(), at=[0, 2, -1])
    assert noisy.shape == clean.shape == (3, 8, 16, 16)
    assert np.array_equal(noisy[-1], sample(denoiser, labels, seeds, settings()))
    assert np.array_equal(noisy[-1], clean[-1])
    assert noisy[0].std() > 60  # pure noise: standard deviation 127.5, cut off at 0 and 255


def test_guidance_costs_nothing_outside_its_interval(denoiser: Denoiser) -> None:
    sizes: list[int] = []
    denoiser.network.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    labels, seeds = eight_images()
    chosen = settings(guidance=2.0, guidance_interval=(0.2, 2.0), steps=10)
    sample(denoiser, labels, seeds, chosen)
    scheduler = build_pipeline(denoiser, chosen).scheduler
    scheduler.set_timesteps(10)
    ratios = [denoiser.schedule.noise_ratio[t] for t in scheduler.timesteps.tolist()]
    assert sizes == [16 if 0.2 <= ratio <= 2.0 else 8 for ratio in ratios]
    assert {8, 16} == set(sizes)


@pytest.mark.parametrize(("supported", "chosen"), [(True, "bfloat16"), (False, "float32")])
def test_automatic_precision_follows_the_device(
    monkeypatch: pytest.MonkeyPatch, denoiser: Denoiser, supported: bool, chosen: str
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: supported)
    resolved = resolve_precision(settings(), "cpu")
    assert resolved == settings(precision=chosen)
    assert resolve_precision(resolved, "cuda") is resolved
    labels, seeds = eight_images()
    automatic = sample(denoiser, labels, seeds, settings())
    assert np.array_equal(automatic, sample(denoiser, labels, seeds, resolved))


def test_compiling_happens_once_and_keeps_weights_and_images(
    monkeypatch: pytest.MonkeyPatch, denoiser: Denoiser
) -> None:
    labels, seeds = eight_images()
    expected, names = sample(denoiser, labels, seeds, settings()), list(denoiser.state_dict())
    compiled: list[torch.nn.Module] = []
    calls: list[int] = []

    def compile_to_itself(module: torch.nn.Module) -> None:  # generating code takes a minute
        compiled.append(module)

        def call(*inputs: torch.Tensor, **keywords: torch.Tensor) -> object:
            calls.append(len(inputs[0]))
            return module._call_impl(*inputs, **keywords)

        module._compiled_call_impl = call

    monkeypatch.setattr(torch.nn.Module, "compile", compile_to_itself)
    for _ in range(2):
        assert np.array_equal(sample(denoiser, labels, seeds, settings(compile=True)), expected)
    assert compiled == [denoiser.network]
    assert len(calls) == 10
    assert list(denoiser.state_dict()) == names
    assert settings(compile=True).identity() != settings().identity()


def test_more_steps_than_the_process_has_are_refused(denoiser: Denoiser) -> None:
    labels, seeds = eight_images()
    with pytest.raises(SettingsError, match=r"sampler\.steps: 101 .* 100"):
        sample(denoiser, labels, seeds, settings(steps=101))


def test_denoising_starts_from_images_with_the_noise_asked_for(denoiser: Denoiser) -> None:
    labels, seeds = eight_images()
    starts = np.repeat(np.arange(40, 240, 25, dtype=np.uint8), 256).reshape(8, 16, 16)
    first = build_pipeline(denoiser, settings(start_ratio=0.1))
    clean = torch.from_numpy(starts)[:, None] / 127.5 - 1
    y, noise = torch.from_numpy(labels), gaussian(torch.from_numpy(seeds), 0, 16, 16)
    states = first.states(y, lambda _: noise, start=(clean, 0.1))
    x_t, _ = next(iter(states))
    level = first.scheduler.config.noise_ratio[int(first.scheduler.timesteps[0])]
    assert level == pytest.approx(0.1, rel=0.15)
    alpha = (1 + level**2) ** -0.5
    assert torch.allclose(x_t, alpha * (clean + level * noise), atol=1e-5)
    drawn = sample(denoiser, labels, seeds, settings(start_ratio=0.1), starts=starts)
    assert not np.array_equal(drawn, sample(denoiser, labels, seeds, settings()))


def test_orientations_are_the_eight_and_can_be_undone() -> None:
    image = torch.arange(9.0).view(1, 1, 3, 3)
    seen = [oriented(image, k) for k in range(8)]
    assert len({tuple(one.flatten().tolist()) for one in seen}) == 8
    assert all(torch.equal(oriented(one, k, back=True), image) for k, one in enumerate(seen))


def test_steps_see_the_images_in_turn_in_all_orientations(denoiser: Denoiser) -> None:
    pipeline = build_pipeline(denoiser, settings(reorient=True, steps=9, precision="float32"))
    seen: list[torch.Tensor] = []
    hook = denoiser.network.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    labels, noise = torch.tensor([0, 1]), torch.randn(10, 2, 1, 16, 16)
    states = list(pipeline.states(labels, lambda number: noise[number]))
    hook.remove()
    for step, (x, clean) in enumerate(states[:-1]):
        assert torch.equal(seen[step], oriented(x, step % 8))
        t = torch.full((2,), int(pipeline.scheduler.timesteps[step]))
        prediction = oriented(denoiser(seen[step], t, labels), step % 8, back=True)
        expected = denoiser.schedule.x_0(prediction, x, t)
        torch.testing.assert_close(clean, expected, atol=1e-5, rtol=1e-4)


def test_guidance_extrapolates_from_the_null_class(denoiser: Denoiser) -> None:
    pipeline = build_pipeline(denoiser, settings())
    x, labels = torch.rand(4, 1, 16, 16) * 2 - 1, torch.arange(4) % 2
    nulls = torch.full_like(labels, denoiser.null_label)

    def predicted(y: torch.Tensor, guidance: float) -> torch.Tensor:
        pipeline.scheduler.set_timesteps(5)
        t = int(pipeline.scheduler.timesteps[0])
        pipeline._step(x, t, (y, None), guidance, None)
        found: torch.Tensor = pipeline.scheduler.model_outputs[-1]
        return found

    conditional, unconditional = predicted(labels, 1.0), predicted(nulls, 1.0)
    expected = {0.0: unconditional, 0.999999: conditional}
    expected[3.0] = 3 * conditional - 2 * unconditional  # x_0 is linear in the prediction
    for guidance, wanted in expected.items():
        torch.testing.assert_close(predicted(labels, guidance), wanted, atol=1e-5, rtol=1e-5)


def test_ends_are_the_images_of_the_two_seeds(denoiser: Denoiser) -> None:
    frames = interpolate(denoiser, 1, (5, 6), np.array([0.0, 0.5, 1.0]), settings(steps=3))
    own = sample(denoiser, np.array([1, 1]), np.array([5, 6]), settings(steps=3))
    assert np.abs(frames[[0, 2]].astype(int) - own).max() <= 1
    assert not np.array_equal(frames[1], frames[0])
    assert not np.array_equal(frames[1], frames[2])
    with pytest.raises(SettingsError, match="ddpm"):
        interpolate(denoiser, 0, (1, 2), np.array([0.0, 1.0]), settings(name="ddpm"))


def test_noise_on_the_arc_keeps_its_strength() -> None:
    a, b = torch.randn(2, 1, 64, 64)
    between = slerp(a, b, torch.linspace(0, 1, 5))
    assert torch.allclose(between[0], a, atol=1e-5)
    assert torch.allclose(between[-1], b, atol=1e-5)
    assert between.std(dim=(1, 2, 3)).sub(1).abs().max() < 0.05
