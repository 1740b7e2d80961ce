"""Checks that Lambda accepts a zip: one program for provided.al2023. Prints what is wrong, or its contents.

    package.py ZIP arm64|x86_64            a function: `bootstrap`
    package.py ZIP arm64|x86_64 NAME       a layer: a program with this name
"""

import io
import sys
import zipfile

from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection

# The version in Amazon Linux 2023, which does not start a program that needs a later one.
GLIBC = (2, 34)
LIBRARIES = {"libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1"}
MACHINES = {
    "arm64": ("EM_AARCH64", "ld-linux-aarch64.so.1"),
    "x86_64": ("EM_X86_64", "ld-linux-x86-64.so.2"),
}


def faults(archive, architecture, name="bootstrap"):
    machine, loader = MACHINES[architecture]
    if archive.namelist() != [name]:
        return [f"it holds {archive.namelist()}"]
    [entry] = archive.infolist()
    elf = ELFFile(io.BytesIO(archive.read(entry)))
    found = []
    if entry.external_attr >> 16 & 0o555 != 0o555:
        found.append(f"{name} is not executable for all: {entry.external_attr >> 16:o}")
    if elf["e_machine"] != machine:
        found.append(f"{name} is made for {elf['e_machine']}")
    sections = list(elf.iter_sections())
    left = [section.name for section in sections if section.name == ".symtab" or section.name.startswith(".debug")]
    if left:
        found.append(f"{name} is not stripped: {left}")
    needed = {tag.needed for tag in elf.get_section_by_name(".dynamic").iter_tags("DT_NEEDED")}
    if needed - LIBRARIES - {loader}:
        found.append(f"{name} needs {sorted(needed - LIBRARIES - {loader})}")
    versions = [
        version.name.removeprefix("GLIBC_")
        for section in sections
        if isinstance(section, GNUVerNeedSection)
        for _, needs in section.iter_versions()
        for version in needs
        if version.name.startswith("GLIBC_")
    ]
    newest = max(versions, key=numbers)
    if numbers(newest) > GLIBC:
        found.append(f"{name} needs glibc {newest}")
    print(f"zip {sum(e.compress_size for e in archive.infolist())} bytes, program {entry.file_size} bytes")
    print(f"glibc {newest}, {sorted(needed)}")
    return found


def numbers(version):
    return tuple(int(part) for part in version.split("."))


wrong = faults(zipfile.ZipFile(sys.argv[1]), *sys.argv[2:])
sys.exit("\n".join(wrong) or 0)
