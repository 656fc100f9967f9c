import numpy as np
import pytest

from svp_lightning.simulation.mie import (
    MAX_SINE,
    RADII_UM,
    mie_coefficients,
    nearest_radius,
    spectrum_over_sine,
    sphere_spectrum,
)


def efficiencies(x: float, m: complex) -> tuple[float, float]:
    a, b = mie_coefficients(np.array([x]), m)
    n = np.arange(1, len(a) + 1)[:, None]
    extinction = 2 / x**2 * ((2 * n + 1) * (a + b).real).sum()
    scattering = 2 / x**2 * ((2 * n + 1) * (abs(a) ** 2 + abs(b) ** 2)).sum()
    return float(extinction), float(scattering)


def test_matches_the_published_example_of_bohren_and_huffman() -> None:
    # Appendix A: n = 1.55 in air, radius 0.525 um at 0.6328 um: Qsca = 3.10543.
    x = 2 * np.pi * 0.525 / 0.6328
    extinction, _ = efficiencies(x, 1.55)
    assert extinction == pytest.approx(3.10543, abs=1e-5)
    forward = spectrum_over_sine(np.array([0.525]), 1.55, 1.0, 0.6328, 2)[0, 0]
    area = np.pi * 0.525**2
    assert forward.real == pytest.approx(-extinction * area / 2, rel=1e-6)  # the optical theorem


@pytest.mark.parametrize("m", [1.403 / 1.338, 1.0 / 1.338, 1.27 / 1.34])
@pytest.mark.parametrize("x", [4.0, 60.0, 300.0])
def test_a_sphere_without_absorption_loses_only_what_it_scatters(x: float, m: float) -> None:
    extinction, scattering = efficiencies(x, m)
    assert extinction == pytest.approx(scattering, rel=1e-9)


def test_coefficients_do_not_depend_on_the_other_spheres_in_the_table() -> None:
    alone = mie_coefficients(np.array([5.0]), 0.75)[0][:, 0]
    together = mie_coefficients(np.array([5.0, 700.0]), 0.75)[0][:, 1 - 1]
    np.testing.assert_allclose(together[: len(alone)], alone, rtol=1e-8, atol=1e-14)
    assert not together[len(alone) :].any()


def test_spectrum_of_a_weak_sphere_is_that_of_its_thickness() -> None:
    # Thin element: F(0) = i k0 dn V for a weak phase object of volume V.
    row = nearest_radius(0.5)
    spectrum = sphere_spectrum(row, 1.341, 1.340, 0.47)
    volume = 4 / 3 * np.pi * RADII_UM[row] ** 3
    expected = 1j * 2 * np.pi / 0.47 * 0.001 * volume
    assert abs(complex(spectrum[0]) - expected) < 0.02 * abs(expected)


def test_the_nearest_radius_is_within_half_a_step() -> None:
    for radius in np.geomspace(0.26, 8.9, 50):
        assert abs(np.log(RADII_UM[nearest_radius(radius)] / radius)) < 0.0046
    assert 0 < MAX_SINE < 1


def test_small_spheres_scatter_as_rayleigh_says() -> None:
    x, m = 0.01, 1.2
    _, scattering = efficiencies(x, m)
    rayleigh = 8 / 3 * x**4 * ((m**2 - 1) / (m**2 + 2)) ** 2
    assert scattering == pytest.approx(rayleigh, rel=1e-3)


def test_spectrum_of_a_large_sphere_holds_its_shadow() -> None:
    row = nearest_radius(8.0)
    forward = complex(sphere_spectrum(row, 1.0, 1.338, 0.47)[0])
    assert forward.real == pytest.approx(-np.pi * RADII_UM[row] ** 2, rel=0.05)
