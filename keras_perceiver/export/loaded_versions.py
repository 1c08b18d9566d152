"""Which versions of the models of a shelf a server loads, and which labels they have: `models.config`."""

from dataclasses import dataclass, field
from pathlib import Path

from keras_perceiver._checks import InputError, nearest, printable, require
from keras_perceiver.export.shelf import ARTEFACTS, check_name, versions

STABLE, CANARY = "stable", "canary"  # labels; every model has a version that is stable


@dataclass
class Loaded:
    """Of one model: the `versions` that a server loads, and the version that each of the `labels` stands for."""

    versions: set[int] = field(default_factory=set)
    labels: dict[str, int] = field(default_factory=dict)


def find_models(shelf):
    """`({name: its versions that are SavedModels, ascending}, notes)` of what lies on a shelf.

    Links are not followed: a server that is given the shelf need not see what they point to, and must not.
    """
    found, notes = {}, []
    for home in sorted(p for p in Path(shelf).iterdir() if p.is_dir() and not p.name.startswith(".")):
        try:
            require(not home.is_symlink(), "It must not be a link")
            check_name(home.name)
        except InputError as error:
            notes.append(f"not served: {printable(home.name)}. {error}")
            continue
        formats = {number: _format(home / str(number)) for number in versions(home)}
        served = [number for number, form in formats.items() if form == "saved_model"]
        if served:
            found[home.name] = served
        elif "litert" not in formats.values():
            notes.append(f"not served: {home.name}. It holds no version that is a SavedModel")
    return found, notes


def _format(folder):
    """What lies in the folder of a version: the format, or None."""
    names = [] if folder.is_symlink() else [name for name in ARTEFACTS if (folder / name).is_file()]
    return ARTEFACTS[names[0]] if names else None


def choose_versions(found, before, *, canary=None, stable=None, retire=None):
    """What a server is to load next, and how its versions are called.

    A model that is new has its newest version loaded, as the stable one. After that nothing changes by itself: a
    version that was exported since waits until it is asked for. Labels move between versions that are loaded already,
    as a server refuses a list in which a label goes to one that is not; so a model takes one step at a time.

    Args:
        found: `{name: versions on the shelf}`.
        before: `{name: Loaded}` as it was.
        canary: `{name: version}` to load beside the stable one and try.
        stable: `{name: version}` that is to be the stable one, of those that are loaded: forward, or back.
        retire: `{name: version}` that is not to be loaded any more.

    Returns:
        `({name: Loaded}, notes)`.

    Raises:
        InputError: where a step cannot be taken, or the stable version has gone from the shelf.
    """
    steps = {"canary": canary or {}, "stable": stable or {}, "retire": retire or {}}
    asked = [name for step in steps.values() for name in step]
    for name in asked:
        require(name in found, "A model must lie on the shelf", repair=nearest(name, found), name=name)
        require(asked.count(name) == 1, "A model takes one step at a time", name=name, repair="See `saved_models`.")
    models, notes = {}, [f"{name} has gone from the shelf" for name in before if name not in found]
    for name, present in found.items():
        model, said = _kept(name, present, before.get(name))
        notes += said
        if model is None:
            first = steps["stable"].get(name, present[-1])
            _require_present(name, first, present)
            model = Loaded({first}, {STABLE: first})
            notes.append(f"{name} is new: version {first} is stable")
        for step, take in (("canary", _try), ("stable", _make_stable), ("retire", _retire)):
            if name in steps[step]:
                _require_present(name, steps[step][name], present)
                take(name, model, steps[step][name])
        for step, number, _ in next_steps(present, model):
            if step == "--canary":
                notes.append(f"{name}: version {number} is not loaded; `--canary {name}={number}` would")
        models[name] = model
    return models, notes


def next_steps(present, model):
    """Yields (option, version, what it does) of each step that a model, `Loaded`, may take next, of those that lie on
    the shelf."""
    stable, canary = model.labels[STABLE], model.labels.get(CANARY)
    if canary is None and present[-1] > max(model.versions):
        yield "--canary", present[-1], f"load it beside {stable}, to be tried by its label"
    for number in sorted(model.versions - {stable}):
        yield "--stable", number, "forward" if number > stable else "back"
        yield "--retire", number, "not loaded any more"


def _kept(name, present, before):
    """`(what is left of what was loaded, notes)`; None of a model that is new."""
    if before is None:
        return None, []
    require(
        before.labels.get(STABLE) in present,
        f"The stable version of {name!r} must lie on the shelf",
        stable=before.labels.get(STABLE),
        versions=present,
        repair="Put it back; or delete models.config to begin anew with the newest, and start the server again.",
    )
    kept = before.versions & set(present)
    labels = {label: number for label, number in before.labels.items() if number in kept}
    return Loaded(kept, labels), [f"{name}: version {n} has gone" for n in sorted(before.versions - kept)]


def _require_present(name, version, present):
    require(version in present, f"A version of {name!r} must lie on the shelf", version=version, versions=present)


def _try(name, model, version):
    taken = model.labels.get(CANARY, version)
    require(
        taken == version,
        f"{name!r} must have one canary at a time",
        canary=taken,
        repair=f"`--stable {name}={taken}` keeps it, `--retire {name}={taken}` gives it up.",
    )
    require(version != model.labels[STABLE], f"The canary of {name!r} must not be stable already", version=version)
    model.versions.add(version)
    model.labels[CANARY] = version


def _make_stable(name, model, version):
    require(
        version in model.versions,
        f"A version of {name!r} must be loaded before it is stable",
        version=version,
        loaded=sorted(model.versions),
        repair=f"`--canary {name}={version}` loads it.",
    )
    model.labels[STABLE] = version
    if model.labels.get(CANARY) == version:
        del model.labels[CANARY]


def _retire(name, model, version):
    require(version in model.versions, f"A version of {name!r} must be loaded to be retired", version=version)
    require(version != model.labels[STABLE], f"The stable version of {name!r} must not be retired", version=version)
    model.versions.remove(version)
    if model.labels.get(CANARY) == version:
        del model.labels[CANARY]
