"""Writes the archives that tests/suite/tar.rs reads, with Python's tarfile. Run in this folder."""

import io
import tarfile

FILES = [
    ("a.txt", b"first"),
    ("deep/er/b.bin", bytes(range(256)) * 5 + bytes(range(20))),
    ("empty", b""),
    ("p" * 120 + "/c", b"prefix"),
    ("d\u00e9j\u00e0.txt", b"unicode"),
]
LONG = ("folder" * 20 + "/" + "n" * 120 + ".txt", b"long")


def write(path, dialect, files):
    with tarfile.open(path, "w", format=dialect) as archive:
        folder = tarfile.TarInfo("deep")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
        for name, content in files:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
            if name == "a.txt":
                link = tarfile.TarInfo("link")
                link.type = tarfile.SYMTYPE
                link.linkname = "a.txt"
                archive.addfile(link)


write("ustar.tar", tarfile.USTAR_FORMAT, FILES)
write("gnu.tar", tarfile.GNU_FORMAT, FILES + [LONG])
write("pax.tar", tarfile.PAX_FORMAT, FILES + [LONG])

# What the writer makes: no owners, a time of 0, and no padding to 10,240 bytes.
plain = io.BytesIO()
with tarfile.open(fileobj=plain, mode="w", format=tarfile.USTAR_FORMAT) as archive:
    for name, content in [("000000.cls", b"3"), ("000000.jpg", bytes([7]) * 1024), ("000001.cls", b"")]:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
content = plain.getvalue()
end = 2 * 512 + 512 + 1024 + 512 + 1024
with open("plain.tar", "wb") as file:
    file.write(content[:end])
