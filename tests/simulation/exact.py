"""A sphere's image by direct sums in double precision, sharing no code with the package.

Mie coefficients come from scipy's spherical Bessel functions, the amplitudes from Bohren &
Huffman's recurrences (eqs. 4.47, 4.74), the condenser is a polar Gauss quadrature of its fading
disc, and the field of each of its points is summed on a line through the centre. A centred sphere
under a round source is radially symmetric, so the line is the image.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import spherical_jn, spherical_yn

_PERIODS = 4.0
"""Distance of the repetitions that sampling the frequencies makes, in largest distances."""
_SINES = np.linspace(0, 0.62, 6001)


def exact_profile(
    radii_um: NDArray[np.float64],
    *,
    radius: float,
    index: float,
    z: float,
    objective_na: float,
    condenser_na: float,
    medium: float,
    wavelength: float = 0.47,
    rings: int = 14,
    spokes: int = 40,
) -> NDArray[np.float64]:
    """Intensity at distances from the centre, background 1; float64 like ``radii_um``."""
    k = 2 * np.pi * medium / wavelength
    spectrum = -2 * np.pi / k**2 * mean_amplitude(k * radius, index / medium)
    step = 1 / (_PERIODS * float(radii_um.max()))
    half = int(np.ceil(objective_na / wavelength / step))
    f = step * np.arange(-half, half + 1)
    fx, fy = np.meshgrid(f, f)
    # The pupil's edge falls off over one frequency sample, which is too short to matter.
    lens = np.clip((objective_na / wavelength - np.hypot(fx, fy)) / step + 0.5, 0, 1)
    kept = lens > 0
    fx, fy, lens = fx[kept], fy[kept], lens[kept]
    lens = lens * np.exp(1j * z * _axial(k, np.hypot(fx, fy) * wavelength / medium))
    column = np.rint(fx / step).astype(int) + half
    to_line = np.exp(2j * np.pi * np.outer(radii_um, f))
    nodes, weights = np.polynomial.legendre.leggauss(rings)
    total = np.zeros(radii_um.size)
    # u = rho^2 spreads points evenly over the disc, where the light is (1 - u)^2 with mean 1/3.
    light = 3 * (1 - (nodes + 1) / 2) ** 2
    for node, weight in zip(nodes, weights * light, strict=True):
        s = condenser_na / wavelength * np.sqrt((node + 1) / 2)
        for angle in (np.arange(spokes // 2) + 0.5) * 2 * np.pi / spokes:  # half by symmetry
            sx, sy = s * np.cos(angle), s * np.sin(angle)
            sine = np.hypot(fx - sx, fy - sy) * wavelength / medium
            at = sine / _SINES[1]
            low = at.astype(int)
            seen = (spectrum[low] + (at - low) * (spectrum[low + 1] - spectrum[low])) * lens
            summed = np.bincount(column, seen.real, f.size) + 1j * np.bincount(
                column, seen.imag, f.size
            )
            wave = np.exp(1j * (2 * np.pi * sx * radii_um + z * _axial(k, s * wavelength / medium)))
            total += weight / spokes * np.abs(wave + step**2 * (to_line @ summed)) ** 2
    return total


def mean_amplitude(x: float, m: float) -> NDArray[np.complex128]:
    """(S1 + S2) / 2 on the grid of sines."""
    orders = np.arange(1, int(x + 4.05 * x ** (1 / 3) + 2) + 1)
    psi, dpsi = _riccati(spherical_jn, orders, x)
    chi, dchi = _riccati(spherical_yn, orders, x)
    xi, dxi = psi + 1j * chi, dpsi + 1j * dchi
    psi_m, dpsi_m = _riccati(spherical_jn, orders, m * x)
    a = (m * psi_m * dpsi - psi * dpsi_m) / (m * psi_m * dxi - xi * dpsi_m)
    b = (psi_m * dpsi - m * psi * dpsi_m) / (psi_m * dxi - m * xi * dpsi_m)
    cosine = np.sqrt(1 - _SINES**2)
    before, current = np.zeros_like(cosine), np.ones_like(cosine)
    total = np.zeros(cosine.size, complex)
    for n in orders:
        tau = n * cosine * current - (n + 1) * before
        factor = (2 * n + 1) / (n * (n + 1)) / 2
        total += factor * (a[n - 1] + b[n - 1]) * (current + tau)
        before, current = current, ((2 * n + 1) * cosine * current - (n + 1) * before) / n
    return total


def _riccati(bessel, orders, x):  # type: ignore[no-untyped-def]
    """z b(z) and its derivative."""
    values, slopes = bessel(orders, x), bessel(orders, x, derivative=True)
    return x * values, values + x * slopes


def _axial(k, sine):  # type: ignore[no-untyped-def]
    """Axial wave number relative to the axis."""
    return k * (np.sqrt(1 - np.minimum(sine, 1) ** 2) - 1)
