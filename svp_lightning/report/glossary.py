"""Terms a newcomer meets in a report, explained once."""

GLOSSARY = {
    "Sub-visible particle": (
        "A particle of about 2 to 100 µm in a protein drug. Protein aggregates can harm "
        "patients; silicone oil droplets and air bubbles are mostly harmless but look alike."
    ),
    "Rare class": (
        "A particle type with few real images. A classifier sees too few examples of it, and "
        "even a small share of mistakes on the common class can outnumber its particles."
    ),
    "Prevalence": "How common each particle type is among the particles that are classified.",
    "Precision": (
        "Of the particles counted as a class, the share that really is of that class (also: "
        "positive predictive value). It falls when the class is rare."
    ),
    "Recall": (
        "Of the particles of a class, the share that is found. Prevalence leaves it as it is."
    ),
    "F1": "The harmonic mean of precision and recall: high only if both are.",
    "AUPRC": (
        "Area under the precision-recall curve: precision averaged over all the recalls that "
        "some threshold reaches. 1 is perfect; a class guessed at random gets its prevalence."
    ),
    "Recall at 95 % precision": (
        "The largest share of a class that can be found while at least 95 % of what is counted "
        "as the class really is of it; 0 where no threshold is that precise."
    ),
    "Macro": "The plain mean over classes, so that a rare class counts as much as a common one.",
    "95 % interval": (
        "The range of values that fit the test images: were the images drawn again, 95 % of "
        "such intervals would hold the true value. That of one seed does not cover another; that "
        "of a mean over several seeds does."
    ),
    "Diffusion model": (
        "A network that learns to turn noise into images, step by step. Here it generates "
        "further images of a rare class from the real training images of that class."
    ),
    "Ratio": (
        "Added images per real training image of a rare class: at 2×, 1,000 real images are "
        "joined by 2,000 added ones. Validation and test images are always real."
    ),
    "Control": "The same classifier, data and seed, with nothing done about the rare classes.",
    "Duplicates": (
        "A control that adds copies of real images, as many as the generated ones: whatever "
        "generated images gain beyond it comes from what they show, not from how many they are."
    ),
    "FID and KID": (
        "Distances between two sets of images in the features of a network: 0 where the sets "
        "cannot be told apart. FID grows as sets get smaller; KID does not."
    ),
    "Precision and density": (
        "Of generated images: the share that lies where real images lie, and how densely real "
        "images lie there (about 1 is as dense as among themselves)."
    ),
    "Recall and coverage": (
        "Of generated images: the share of the variety of real images that they reach. Images "
        "that all look alike score low, however good each of them is."
    ),
    "Two-sample AUC": (
        "How well a classifier tells generated from real images: 0.5 by chance only, 1 without "
        "a mistake."
    ),
    "Taken for its class": (
        "Share of generated images that a classifier of the real training images gives the class "
        "they were drawn as, beside the share of held-out real images. Lower: many show another "
        "class under this one's name. Higher: they are plainer than real ones."
    ),
    "Floor": (
        "What real images score in place of generated ones. A generator at its floor cannot be "
        "told from more real images by this measure, at this number of images."
    ),
    "Signs of copying": (
        "A copy lies closer to one training image than new images do, and far closer to it than "
        "to any other. Held-out real images show how close new images come by chance; images are "
        "turned and mirrored in all 8 ways before they are compared."
    ),
    "Seed": "The number that fixes every random choice of a run; another one repeats the trial.",
}

FIDELITY_TERMS = (
    "FID and KID",
    "Precision and density",
    "Recall and coverage",
    "Two-sample AUC",
    "Taken for its class",
    "Floor",
    "Signs of copying",
)
STUDY_TERMS = tuple(term for term in GLOSSARY if term not in FIDELITY_TERMS)
RUN_TERMS = tuple(term for term in STUDY_TERMS if term not in ("Control", "Duplicates"))


def entries(terms: tuple[str, ...] = STUDY_TERMS) -> list[tuple[str, str]]:
    """(term, explanation), in the order of :data:`GLOSSARY`."""
    return [(term, words) for term, words in GLOSSARY.items() if term in terms]
