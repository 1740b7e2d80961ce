"""The files of a release that are not programs. scripts/release.sh calls it.

    release.py version PACKAGE          its version, from the output of `cargo metadata`
    release.py notes VERSION CHANGELOG  this version's part of the changelog
    release.py zip ZIP NAME FILE...     a zip with this file under this name, and the next under the next
    release.py sbom FILE PACKAGE TARGET the components of a program (CycloneDX)
    release.py licences FOLDER          LICENSES.txt, the licences of all components that the SBOMs there name
    release.py stage python|node FOLDER the sources of a client's package

Nothing in a zip or an SBOM depends on the machine or the time: SOURCE_DATE_EPOCH is the time in both.
"""

import datetime
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile


def when():
    return datetime.datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), datetime.UTC)


def version(package):
    print(next(each["version"] for each in json.load(sys.stdin)["packages"] if each["name"] == package))


def notes(version, changelog):
    text = pathlib.Path(changelog).read_text()
    found = re.search(rf"^## \[{re.escape(version)}\][^\n]*\n(.*?)(?=^## |^\[|\Z)", text, re.DOTALL | re.MULTILINE)
    sys.exit(1) if not found or not found[1].strip() else print(found[1].strip())


def pack(archive, *files):
    with zipfile.ZipFile(archive, "w") as zipped:
        for name, program in zip(files[::2], files[1::2], strict=True):
            entry = zipfile.ZipInfo(name, when().timetuple()[:6])
            entry.create_system = 3  # Unix permissions: everyone may run programs, and read other files
            entry.external_attr = (0o100755 if os.access(program, os.X_OK) else 0o100644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            zipped.writestr(entry, pathlib.Path(program).read_bytes(), compresslevel=9)


def stage(client, folder):
    """A copy of the client, with the licences and the repository's URL, which Cargo.toml alone has."""
    folder = pathlib.Path(folder)
    package = tomllib.loads(pathlib.Path("Cargo.toml").read_text())["workspace"]["package"]
    repository = package["repository"]
    shutil.copytree(f"clients/{client}", folder, ignore=shutil.ignore_patterns("node_modules", "__pycache__"))
    for licence in pathlib.Path().glob("LICENSE-*"):
        shutil.copy(licence, folder)
    # Not every registry resolves links to the repository's other files.
    readme = folder / "README.md"
    readme.write_text(readme.read_text().replace("](../../", f"]({repository}/blob/v{package['version']}/"))
    if client == "python":
        with (folder / "pyproject.toml").open("a") as project:
            project.write(f'\n[project.urls]\nRepository = "{repository}"\n')
    else:
        manifest = json.loads((folder / "package.json").read_text())
        manifest["homepage"] = repository
        manifest["repository"] = {"type": "git", "url": f"git+{repository}.git", "directory": "clients/node"}
        (folder / "package.json").write_text(json.dumps(manifest, indent=2) + "\n")


class Tree:
    """The output of `cargo tree`, the only tool that resolves features for a single package and target as the build does."""

    def __init__(self, package, target):
        self.arguments = ["cargo", "tree", "--locked", "--package", package, "--target", target]
        self.dependencies = {}
        self.root = None
        path = []
        for line in self.lines("normal,build", "depth", "{p}"):
            depth, name, version = re.match(r"(\d+)(\S+) v(\S+)", line).groups()
            path[int(depth) :] = [(name, version)]
            self.root = self.root or path[0]
            self.dependencies.setdefault(path[-1], set())
            if len(path) > 1:
                self.dependencies[path[-2]].add(path[-1])
        linked = self.lines("normal,no-proc-macro", "none", "{p}")
        self.linked = {re.match(r"(\S+) v(\S+)", line).groups() for line in linked}

    def lines(self, edges, prefix, form):
        command = [*self.arguments, "--edges", edges, "--prefix", prefix, "--format", form]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def described():
    command = ["cargo", "metadata", "--locked", "--format-version", "1"]
    metadata = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return {(each["name"], each["version"]): each for each in metadata["packages"]}


def sbom(file, package, target):
    tree = Tree(package, target)
    packages = described()
    locked = tomllib.loads(pathlib.Path("Cargo.lock").read_text())["package"]
    checksums = {(each["name"], each["version"]): each["checksum"] for each in locked if "checksum" in each}

    def reference(key):
        return f"pkg:cargo/{key[0]}@{key[1]}"

    def component(key):
        known = packages[key]
        given = {
            "type": "application" if key == tree.root else "library",
            "bom-ref": reference(key),
            "name": key[0],
            "version": key[1],
            "description": known["description"],
            # Crates of build scripts and procedural macros take part in the build, but are not in the program.
            "scope": "required" if key in tree.linked else "excluded",
            "hashes": [{"alg": "SHA-256", "content": checksums[key]}] if key in checksums else None,
            # To Cargo, a slash between licences means "or", since before SPDX.
            "licenses": [{"expression": known["license"].replace("/", " OR ")}] if known["license"] else None,
            # Only for crates of the registry, not for the workspace's own.
            "purl": reference(key) if key in checksums else None,
        }
        return {name: value for name, value in given.items() if value}

    keys = sorted(tree.dependencies)
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": when().strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": component(tree.root),
            "properties": [{"name": "cdx:rustc:sbom:target:triple", "value": target}],
        },
        "components": [component(key) for key in keys if key != tree.root],
        "dependencies": [
            {"ref": reference(key), "dependsOn": sorted(map(reference, tree.dependencies[key]))} for key in keys
        ],
    }
    pathlib.Path(file).write_text(json.dumps(bill, indent=1, ensure_ascii=False) + "\n")


# They are no packages of Cargo.
STANDARD_LIBRARIES = """Each program contains the standard library of Rust (https://rust-lang.org): MIT OR Apache-2.0.
token-broker-local contains musl, Copyright © 2005-2020 Rich Felker, et al. (https://musl.libc.org): MIT.
"""


def licence_files(package):
    """Those of the crate, or of the workspace for its own crates."""
    folder = pathlib.Path(package["manifest_path"]).parent if package["source"] else pathlib.Path()
    names = re.compile("(licen[cs]e|copying|copyright|notice|unlicense)", re.IGNORECASE)
    return [file for file in sorted(folder.iterdir()) if file.is_file() and names.match(file.name)]


def licences(folder):
    packages = described()
    linked = {}
    for bill in map(json.loads, (file.read_text() for file in pathlib.Path(folder).glob("*.cdx.json"))):
        for each in (bill["metadata"]["component"], *bill["components"]):
            if each["scope"] == "required":
                linked[each["name"], each["version"]] = each["licenses"][0]["expression"]
    texts = {}
    for key in sorted(linked):
        for file in licence_files(packages[key]):
            texts.setdefault(file.read_text().strip(), []).append(f"{key[0]} {key[1]} ({file.name})")
    lines = [f"{name} {version}: {expression}\n" for (name, version), expression in sorted(linked.items())]
    blocks = [f"\n{'=' * 80}\n{', '.join(where)}\n\n{text}\n" for text, where in texts.items()]
    pathlib.Path(folder, "LICENSES.txt").write_text("".join([*lines, STANDARD_LIBRARIES, *blocks]))


COMMANDS = {"version": version, "notes": notes, "zip": pack, "sbom": sbom, "licences": licences, "stage": stage}
COMMANDS[sys.argv[1]](*sys.argv[2:])
