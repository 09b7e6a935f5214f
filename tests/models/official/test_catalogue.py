"""The catalogue as data: names, addresses, hashes and licences are well formed."""

import re

import pytest

from stemrack.models.errors import SpecError
from stemrack.models.official.catalogue import ENTRIES, Kind, entry_named
from stemrack.models.official.installed import NAME
from stemrack.models.stems import STEMS


def test_names_are_names_and_differ():
    names = [entry.name for entry in ENTRIES]
    assert len(set(names)) == len(names)
    assert all(NAME.fullmatch(name) for name in names)
    assert {"danna-xumx", "danna-unet", "danna-demucs", "xumxl", "umxhq", "tdc-vocals"} <= set(names)


def test_every_file_comes_over_https_and_says_its_licence():
    for entry in ENTRIES:
        assert entry.licence.name
        assert entry.licence.stated_at
        for file in entry.files:
            assert file.url.startswith("https://")
            assert re.fullmatch(r"[0-9a-f]{8,64}|", file.sha256)
            assert "/" not in file.filename


def test_open_unmix_is_four_files_with_the_hash_in_their_names():
    for entry in ENTRIES:
        parts = [file.part for file in entry.files]
        assert parts == (list(STEMS) if entry.kind is Kind.umx else [""])
        if entry.kind is Kind.umx:
            assert all(file.filename == f"{file.part}-{file.sha256}.pth" for file in entry.files)


def test_tdc_is_pinned_by_commit_size_and_whole_hash():
    (file,) = entry_named("tdc-vocals").files
    assert re.search(r"/[0-9a-f]{40}/", file.url)
    assert len(file.sha256) == 64
    assert file.n_bytes == 2_289_554


def test_unknown_name_lists_the_known():
    with pytest.raises(SpecError, match=r"'umxx': there are danna-xumx, .*tdc-vocals"):
        entry_named("umxx")
