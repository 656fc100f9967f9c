"""Particles drawn for one instrument, brought to the range of another."""

from dataclasses import replace

from svp_lightning.simulation.scene import Particle, PhaseScreens, Sphere, Spheres


def magnified(
    particle: Particle, scene: Spheres | PhaseScreens, size: float, depth: float
) -> tuple[Particle, Spheres | PhaseScreens]:
    """The same particle ``size`` times as large and ``depth`` times as far from focus.

    Parts of one particle keep their distances relative to its size. An aggregate keeps its
    phase, hence its refractive index approaches the medium's as it grows: aggregates become
    less dense with size.
    """
    if size == depth == 1:
        return particle, scene
    centre = particle.defocus_um
    depths = tuple(centre * depth + (z - centre) * size for z in scene.depths_um)
    if isinstance(scene, Spheres):
        pairs = zip(scene.spheres, depths, strict=True)
        grown: Spheres | PhaseScreens = Spheres(tuple(_grown(s, size, z) for s, z in pairs))
    else:
        grown = replace(
            scene,
            step_um=scene.step_um * size,
            x_um=scene.x_um * size,
            y_um=scene.y_um * size,
            depths_um=depths,
        )
    return (
        replace(
            particle,
            radius_um=particle.radius_um * size,
            ecd_um=particle.ecd_um * size,
            defocus_um=centre * depth,
        ),
        grown,
    )


def _grown(sphere: Sphere, size: float, z_um: float) -> Sphere:
    return replace(
        sphere,
        radius_um=sphere.radius_um * size,
        x_um=sphere.x_um * size,
        y_um=sphere.y_um * size,
        z_um=z_um,
    )
