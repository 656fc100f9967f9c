"""Exact scattering of a plane wave by a sphere (Lorenz-Mie), tabulated for imaging.

Coefficients follow Bohren & Huffman, *Absorption and Scattering of Light by Small
Particles* (1983), eq. 4.53, in the ratio form of Wolf & Voshchinnikov (Comput. Phys.
Commun. 162, 113, 2004), which neither over- nor underflows. Time dependence exp(-i w t).
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

NUM_RADII = 512
RADII_UM = np.geomspace(0.25, 24.0, NUM_RADII)
"""Tabulated radii, 0.9 % apart. Spheres take one of them, so radius is never interpolated."""
NUM_ANGLES = 1024
_BLOCK = 32
MAX_SINE = 0.6

_Complex = npt.NDArray[np.complex128]
_Float = npt.NDArray[np.float64]


def mie_coefficients(size_parameters: _Float, relative_index: complex) -> tuple[_Complex, _Complex]:
    """Scattering coefficients a_n and b_n, n = 1, 2, …: each (orders, R).

    They are zero above each sphere's own last order. ``size_parameters`` (R,) are 2 pi n_m radius /
    wavelength, ``relative_index`` is the sphere's index over the medium's.
    """
    x, m = size_parameters, relative_index
    # Orders that converge the series (Wiscombe, Appl. Opt. 19, 1505, 1980).
    limit = int(np.ceil(x.max() + 4.05 * float(x.max()) ** (1 / 3) + 2))
    d_inside = _log_derivatives(np.asarray(m * x, np.complex128), limit)
    d_outside = _log_derivatives(np.asarray(x, np.complex128), limit)
    d_xi = np.full(x.shape, 1j)  # xi_n' / xi_n
    product = -1j * np.sin(x) * np.exp(1j * x)  # psi_n xi_n
    ratio = 1j * np.sin(x) * np.exp(-1j * x)  # psi_n / xi_n
    a = np.zeros((limit, x.size), dtype=np.complex128)
    b = np.zeros_like(a)
    last = np.ceil(x + 4.05 * np.cbrt(x) + 2)
    for n in range(1, limit + 1):
        psi_step = 1 / (d_outside[n] + n / x)  # psi_n / psi_(n-1)
        product = product * psi_step * (n / x - d_xi)
        d_xi = d_outside[n] + 1j / product
        ratio = ratio * psi_step * (d_xi + n / x)
        inside, outside = d_inside[n], d_outside[n]
        a[n - 1] = ratio * (inside - m * outside) / (inside - m * d_xi)
        b[n - 1] = ratio * (m * inside - outside) / (m * inside - d_xi)
        beyond = n > last
        a[n - 1, beyond] = b[n - 1, beyond] = 0
        product[beyond] = ratio[beyond] = 1  # keep finished spheres finite
    return a, b


def _log_derivatives(z: _Complex, limit: int) -> _Complex:
    """psi_n'(z) / psi_n(z) for n = 0..limit by downward recurrence; (limit + 1, R)."""
    start = max(limit, int(np.ceil(np.abs(z).max()))) + 16
    kept = np.zeros((limit + 1, z.size), dtype=np.complex128)
    current: _Complex = np.zeros(z.shape, dtype=np.complex128)
    for n in range(start, 0, -1):
        current = n / z - 1 / (current + n / z)
        if n - 1 <= limit:
            kept[n - 1] = current
    return kept


def angular_functions(cosines: _Float, limit: int) -> tuple[_Float, _Float]:
    """pi_n and tau_n (Bohren & Huffman eq. 4.47), each (angles, limit) for n = 1..limit."""
    pi = np.zeros((limit + 1, cosines.size))
    pi[1] = 1.0
    for n in range(2, limit + 1):
        pi[n] = ((2 * n - 1) * cosines * pi[n - 1] - n * pi[n - 2]) / (n - 1)
    order = np.arange(1, limit + 1)[:, None]
    tau = order * cosines * pi[1:] - (order + 1) * pi[:-1]
    return pi[1:].T, tau.T


def spectrum_over_sine(
    radii_um: _Float, index: float, medium_index: float, wavelength_um: float, num_angles: int
) -> npt.NDArray[np.complex64]:
    """Scattered spectrum of R spheres at sin(angle) from 0 to MAX_SINE, complex64 (R, num_angles).

    With this scaling F(f) equals the transform of (transmission - 1) wherever a thin element would
    do: F = -2 pi / k^2 (S_1 + S_2) / 2, in um^2, with S_1 and S_2 of Bohren & Huffman eq. 4.74.
    """
    k = 2 * np.pi * medium_index / wavelength_um
    a, b = mie_coefficients(k * radii_um, index / medium_index)
    cosines = np.sqrt(1 - np.linspace(0, MAX_SINE, num_angles) ** 2)
    pi, tau = angular_functions(cosines, a.shape[0])
    n = np.arange(1, a.shape[0] + 1)[:, None]
    both = (pi + tau) @ ((2 * n + 1) / (n * (n + 1)) * (a + b))
    return np.asarray(-np.pi / k**2 * both.T, np.complex64)


def interpolated(rows: Tensor, position: Tensor) -> Tensor:
    """Spectra between their tabulated angles: of complex64 (R, angles), complex64 (R, ...).

    ``position``, float32 (R, ...), is in steps of the table and read at its end beyond it.
    """
    count, angles = rows.shape
    position = position.clamp(max=angles - 1.001)
    below = position.to(torch.int32)
    first = torch.arange(count, dtype=torch.int32, device=rows.device) * angles
    at, values = below + first.view(-1, *([1] * (position.ndim - 1))), rows.view(-1)
    return torch.lerp(values[at], values[at + 1], (position - below).to(rows.dtype))


def sphere_spectrum(row: int, index: float, medium_index: float, wavelength_um: float) -> Tensor:
    """Spectrum of the sphere of radius ``RADII_UM[row]``; complex64 (NUM_ANGLES,)."""
    block, offset = divmod(row, _BLOCK)
    return _spectra(block, index, medium_index, wavelength_um)[offset]


@lru_cache(maxsize=512)
def _spectra(block: int, index: float, medium_index: float, wavelength_um: float) -> Tensor:
    """Neighbouring radii together, built once per process (about 0.01 s)."""
    radii = RADII_UM[block * _BLOCK : (block + 1) * _BLOCK]
    return torch.from_numpy(
        spectrum_over_sine(radii, index, medium_index, wavelength_um, NUM_ANGLES)
    )


def nearest_radius(radius_um: float) -> int:
    """Row of :data:`RADII_UM` closest to a radius on the log scale."""
    step = np.log(RADII_UM[1] / RADII_UM[0])
    row = round(float(np.log(max(radius_um, RADII_UM[0]) / RADII_UM[0]) / step))
    return min(row, NUM_RADII - 1)
