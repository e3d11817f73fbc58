//! Torch checkpoints: the zip archive of torch 1.6 and later, and the stream of pickles before it.
//!
//! Both hold a pickle (see `pickle`), in which a tensor is a call of one of torch's rebuilding functions with a
//! storage, an offset, a shape and strides; the storages' bytes are outside of it. No other call is interpreted.

use crate::FormatError;
use crate::view::{ElementType, MAX_SHOWN, TensorView};
use residual_files::pickle::{Id, Pickle, PickleError, Value};
use residual_files::printable;
use std::collections::HashMap;
use std::io::{Cursor, Read, Seek};
use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

const ZIP_MAGIC: &[u8] = b"PK\x03\x04";

/// Maximum number of pickle operations. Torch needs about forty per tensor.
const MAX_OPERATIONS: usize = 1 << 21;
/// Maximum nesting of dictionaries.
const MAX_DEPTH: usize = 16;
/// Maximum number of dictionary items visited; shared dictionaries count at each occurrence.
const MAX_ITEMS: usize = 1 << 17;
/// Maximum length of a tensor's path, in bytes.
const MAX_NAME: usize = 512;
/// Maximum number of dimensions of a tensor.
const MAX_DIMENSIONS: usize = 16;

/// Whether `bytes` begin as a torch checkpoint does.
pub(crate) fn is_torch(bytes: &[u8]) -> bool {
    bytes.starts_with(ZIP_MAGIC) || matches!(bytes, [0x80, 2..=5, ..])
}

/// The tensors of a torch checkpoint's bytes (`.pth`, `.pt`, `.th`), named by their paths through its dictionaries, and
/// not converted yet. Entries that are not tensors are ignored.
///
/// Nothing in the pickle is ever called. At most a fixed amount (under 500 MB, for a pickle of two million operations)
/// is allocated.
///
/// # Errors
/// If `bytes` are damaged, or no such file, or hold a pickled module instead of a dictionary, or are compressed, which
/// torch never does.
pub fn parse_torch(bytes: &[u8]) -> Result<Vec<(String, TensorView<'_>)>, FormatError> {
    let pickle;
    let storages;
    if bytes.starts_with(ZIP_MAGIC) {
        let archive = Archive::open(bytes)?;
        pickle = unpickle(archive.pickle)?;
        storages = archive.storages;
    } else {
        (pickle, storages) = parse_stream(bytes).map_err(FormatError::Torch)?;
    }
    let mut walk = Walk { pickle: &pickle, storages: &storages, items: 0, tensors: Vec::new(), object: None };
    let root = pickle.root();
    if walk.items_of(root).is_none() {
        let got = match walk.class_of(root) {
            Some(class) => format!("a pickled {class} (save its state_dict())"),
            None => "another value".into(),
        };
        return Err(FormatError::Torch(format!("expected a dictionary of tensors, got {got}")));
    }
    walk.enter(root, "", 0).map_err(FormatError::Torch)?;
    match walk.object {
        Some(object) if walk.tensors.is_empty() => {
            Err(FormatError::Torch(format!("expected tensors, got none but {object} (save its state_dict())")))
        }
        _ => Ok(walk.tensors),
    }
}

fn unpickle(bytes: &[u8]) -> Result<Pickle<'_>, FormatError> {
    Pickle::parse(bytes, MAX_OPERATIONS).map_err(|error: PickleError| FormatError::Torch(error.to_string()))
}

/// The bytes of each storage, by key.
type Storages<'a> = HashMap<String, &'a [u8]>;

/// A zip archive whose entries are not compressed.
struct Archive<'a> {
    pickle: &'a [u8],
    storages: Storages<'a>,
}

impl<'a> Archive<'a> {
    fn open(bytes: &'a [u8]) -> Result<Self, FormatError> {
        let fail = |what: &str| FormatError::Torch(what.into());
        let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(|error| match error {
            // The central directory is at the end.
            _ if !has_directory(bytes) => FormatError::CutOff { format: "torch checkpoint", length: bytes.len() },
            error => error.into(),
        })?;
        // All entries are in one folder, which has the file's name at the time of writing.
        let names: Vec<String> = (0..archive.len())
            .map(|index| Ok(archive.by_index_raw(index)?.name()?.into_owned()))
            .collect::<Result<_, ZipError>>()?;
        let pickles = names.iter().filter(|name| *name == "data.pkl" || name.ends_with("/data.pkl"));
        let folder = pickles.min_by_key(|name| name.len()).and_then(|name| name.strip_suffix("data.pkl"));
        let Some(folder) = folder else {
            return Err(fail("expected an entry data.pkl in the zip archive, got none"));
        };
        if names.iter().any(|name| name.strip_prefix(folder).is_some_and(|path| path.starts_with("code/"))) {
            return Err(fail("expected a state dict, got a TorchScript archive (save its state_dict())"));
        }
        let (mut pickle, mut storages) = (None, Storages::new());
        // Entries must not overlap, so that the total work is bounded.
        let mut left = bytes.len();
        for (index, name) in names.iter().enumerate() {
            match name.strip_prefix(folder) {
                Some("data.pkl") => pickle = Some(entry(&mut archive, index, bytes, &mut left)?),
                Some("byteorder") => {
                    let data = entry(&mut archive, index, bytes, &mut left)?;
                    if data.trim_ascii() != b"little" {
                        let got = data[..data.len().min(16)].escape_ascii();
                        return Err(fail(&format!("byteorder: expected little, got {got}")));
                    }
                }
                Some(path) => {
                    if let Some(key) = path.strip_prefix("data/") {
                        storages.insert(key.into(), entry(&mut archive, index, bytes, &mut left)?);
                    }
                }
                None => {}
            }
        }
        let pickle = pickle.ok_or_else(|| fail("expected an entry data.pkl in the zip archive, got none"))?;
        Ok(Self { pickle, storages })
    }
}

/// Whether a zip archive has the record with which its directory ends, before a comment of up to 64 kB.
fn has_directory(bytes: &[u8]) -> bool {
    let end = &bytes[bytes.len().saturating_sub((64 << 10) + 22)..];
    end.windows(4).any(|window| window == b"PK\x05\x06")
}

/// The bytes of a zip entry, whose length is subtracted from the budget `left`.
fn entry<'a>(
    archive: &mut ZipArchive<impl Read + Seek>,
    index: usize,
    bytes: &'a [u8],
    left: &mut usize,
) -> Result<&'a [u8], FormatError> {
    let entry = archive.by_index_raw(index)?;
    let name = printable(&entry.name()?, MAX_SHOWN);
    let fail = |what: String| Err(FormatError::Torch(format!("zip entry \"{name}\": {what}")));
    if entry.compression() != CompressionMethod::Stored || entry.encrypted() {
        let got = if entry.encrypted() { "encrypted" } else { "compressed" };
        return fail(format!("expected data as torch.save writes it, got {got} data"));
    }
    let (size, crc32) = (entry.size(), entry.crc32());
    let range = || {
        let start = usize::try_from(entry.data_start()?).ok()?;
        bytes.get(start..start.checked_add(usize::try_from(size).ok()?)?)
    };
    let Some(data) = range() else {
        return fail(format!("expected {size} bytes within the file of {}", bytes.len()));
    };
    match left.checked_sub(data.len()) {
        Some(less) => *left = less,
        None => return fail("expected bytes of its own, got another entry's".into()),
    }
    // `torch.save` can omit the checksums; they are 0 then.
    let got = crc32fast::hash(data);
    if crc32 != 0 && got != crc32 {
        return fail(format!("expected checksum {crc32:08x}, got {got:08x}"));
    }
    Ok(data)
}

/// The stream of pickles of torch before 1.6: a magic number, the version, facts about the system, the object, the
/// storages' keys; then for each key its number of elements and their bytes.
fn parse_stream(bytes: &[u8]) -> Result<(Pickle<'_>, Storages<'_>), String> {
    let mut rest = bytes;
    let mut next = || {
        let pickle = Pickle::parse(rest, MAX_OPERATIONS).map_err(|error| error.to_string())?;
        rest = &rest[pickle.length()..];
        Ok::<_, String>(pickle)
    };
    // The magic number, 0x1950a86a20f9469cfc6c, does not fit 64 bits; its bytes tell. It is preceded by the protocol and,
    // from protocol 4 on, the length of a frame.
    let magic = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
    let starts_at = |place: usize| bytes.get(place..place + magic.len()) == Some(magic);
    let has_magic = starts_at(2) || starts_at(11) && bytes[2] == 0x95;
    if !has_magic {
        return Err("expected torch's magic number, got another pickle".into());
    }
    next()?;
    match next()?.root() {
        Value::Int(1001) => {}
        Value::Int(version) => return Err(format!("expected version 1001 of the stream, got {version}")),
        _ => return Err("expected the version of the stream, got another value".into()),
    }
    let system = next()?;
    if !is_little_endian(&system) {
        return Err("expected a little-endian file".into());
    }
    let object = next()?;
    let keys = next()?;
    let Value::Sequence(keys_of_storages) = keys.root() else {
        return Err("expected a list of the storages' keys".into());
    };
    let mut sizes = HashMap::new();
    for value in object.values() {
        if let Value::Persistent(identifier) = value
            && let Ok(storage) = Storage::of(&object, *identifier)
        {
            let size = match storage.element {
                Ok(element) => Ok(element.size()),
                Err(class) => foreign_size(class).ok_or(class),
            };
            sizes.insert(storage.key, size);
        }
    }
    let mut storages = Storages::new();
    for &key in keys_of_storages {
        let Some(key) = keys.text(key) else { return Err("expected the name of a storage".into()) };
        let size = match sizes.get(key) {
            Some(Ok(size)) => *size,
            Some(Err(class)) => {
                let class = printable(class, MAX_SHOWN);
                return Err(format!("storage \"{}\": expected numbers, got {class}", printable(key, MAX_SHOWN)));
            }
            None => return Err(format!("storage \"{}\": expected a use of it, got none", printable(key, MAX_SHOWN))),
        };
        let stored = rest.split_first_chunk().and_then(|(count, data)| {
            let length = usize::try_from(u64::from_le_bytes(*count)).ok()?.checked_mul(size)?;
            data.split_at_checked(length)
        });
        let (data, after) =
            stored.ok_or_else(|| format!("storage \"{}\": expected it within the file", printable(key, MAX_SHOWN)))?;
        storages.insert(key.into(), data);
        rest = after;
    }
    Ok((object, storages))
}

/// Element size of torch storages that are not read as tensors, which the stream's reader needs to skip them.
fn foreign_size(class: &str) -> Option<usize> {
    Some(match class {
        "QInt8Storage" | "QUInt8Storage" | "QUInt4x2Storage" | "QUInt2x4Storage" => 1,
        "QInt32Storage" => 4,
        "ComplexFloatStorage" => 8,
        "ComplexDoubleStorage" => 16,
        _ => return None,
    })
}

fn is_little_endian(system: &Pickle<'_>) -> bool {
    let Value::Dict(items) = system.root() else { return false };
    let is_true = |&[key, value]: &[Id; 2]| {
        system.text(key) == Some("little_endian") && matches!(system.get(value), Value::Bool(true))
    };
    items.iter().any(is_true)
}

/// The description of a storage in a pickle: `("storage", class, key, device, number of elements)`, and in old files
/// the view of another storage that it is, or none.
struct Storage<'a> {
    /// The element type, or the name of the class if it is unsupported.
    element: Result<ElementType, &'a str>,
    key: &'a str,
}

impl<'a> Storage<'a> {
    fn of(pickle: &Pickle<'a>, identifier: Id) -> Result<Self, String> {
        let Value::Sequence(parts) = pickle.get(identifier) else {
            return Err("expected the description of a storage".into());
        };
        let (head, part) = match parts.as_slice() {
            [tag, class, key, _, _] => ([*tag, *class, *key], None),
            [tag, class, key, _, _, part] => ([*tag, *class, *key], Some(*part)),
            _ => return Err(format!("expected the 5 parts of a storage, got {}", parts.len())),
        };
        if part.is_some_and(|part| !matches!(pickle.get(part), Value::None)) {
            return Err("expected a storage of its own, got a part of another".into());
        }
        let [tag, class, key] = head;
        let (Some("storage"), &Value::Global("torch", class), Some(key)) =
            (pickle.text(tag), pickle.get(class), pickle.text(key))
        else {
            return Err("expected the tag, class and key of a storage".into());
        };
        let element = match class {
            "DoubleStorage" => ElementType::F64,
            "FloatStorage" => ElementType::F32,
            "HalfStorage" => ElementType::F16,
            "BFloat16Storage" => ElementType::BF16,
            "LongStorage" => ElementType::I64,
            "IntStorage" => ElementType::I32,
            "ShortStorage" => ElementType::I16,
            "CharStorage" => ElementType::I8,
            "ByteStorage" => ElementType::U8,
            "BoolStorage" => ElementType::Bool,
            other => return Ok(Self { element: Err(other), key }),
        };
        Ok(Self { element: Ok(element), key })
    }
}

/// Collects the tensors of nested dictionaries.
struct Walk<'p, 'a> {
    pickle: &'p Pickle<'a>,
    storages: &'p Storages<'a>,
    items: usize,
    tensors: Vec<(String, TensorView<'a>)>,
    /// The first value that is an object of some class: its path and class.
    object: Option<String>,
}

impl<'p, 'a> Walk<'p, 'a> {
    fn enter(&mut self, dictionary: &'p Value<'a>, path: &str, depth: usize) -> Result<(), String> {
        for &[key, value] in self.items_of(dictionary).into_iter().flatten() {
            self.items += 1;
            if self.items > MAX_ITEMS {
                return Err(format!("expected at most {MAX_ITEMS} items in dictionaries"));
            }
            let Some(key) = self.pickle.text(key) else { continue };
            if path.len() + key.len() >= MAX_NAME {
                continue;
            }
            let name = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
            let value = self.pickle.get(value);
            if let Some(tensor) =
                self.tensor(value).map_err(|what| format!("tensor \"{}\": {what}", printable(&name, MAX_SHOWN)))?
            {
                self.tensors.push((name, tensor));
            } else if depth < MAX_DEPTH {
                if self.object.is_none() && self.items_of(value).is_none() {
                    let object = |class| format!("\"{}\", a pickled {class}", printable(&name, MAX_SHOWN));
                    self.object = self.class_of(value).map(object);
                }
                self.enter(value, &name, depth + 1)?;
            }
        }
        Ok(())
    }

    /// The class or function whose call a value is.
    fn class_of(&self, value: &Value<'a>) -> Option<String> {
        let Value::Call { callable, .. } = value else { return None };
        let Value::Global(module, name) = self.pickle.get(*callable) else { return Some("object".into()) };
        Some(printable(&format!("{module}.{name}"), MAX_SHOWN))
    }

    /// The items of a dictionary, ordered or not; `None` for anything else.
    fn items_of(&self, value: &'p Value<'a>) -> Option<&'p [[Id; 2]]> {
        match value {
            Value::Dict(items) => Some(items),
            Value::Call { callable, items, .. }
                if matches!(self.pickle.get(*callable), Value::Global("collections", "OrderedDict")) =>
            {
                Some(items)
            }
            _ => None,
        }
    }

    /// The tensor of a call of a rebuilding function; `None` for any other value.
    fn tensor(&self, value: &'p Value<'a>) -> Result<Option<TensorView<'a>>, String> {
        let Value::Call { callable, arguments, .. } = value else { return Ok(None) };
        let (mut callable, mut arguments) = (*callable, *arguments);
        // A parameter holds a tensor, and so does a tensor with attributes; either may hold the other once.
        for _ in 0..3 {
            let &Value::Global(module, function) = self.pickle.get(callable) else { return Ok(None) };
            let is_torch = module == "torch._utils" || module.starts_with("torch._tensor");
            if !is_torch {
                return Ok(function.starts_with("_rebuild").then(|| TensorView::foreign(function)));
            }
            let Value::Sequence(parts) = self.pickle.get(arguments) else { return Ok(None) };
            match (function, parts.as_slice()) {
                ("_rebuild_parameter" | "_rebuild_parameter_with_state", &[data, ..]) => {
                    let Value::Call { callable: inner, arguments: with, .. } = self.pickle.get(data) else {
                        return Ok(None);
                    };
                    (callable, arguments) = (*inner, *with);
                }
                // A function, a class, the function's arguments, and attributes, which are not used.
                ("_rebuild_from_type_v2", &[inner, _, with, ..]) => (callable, arguments) = (inner, with),
                ("_rebuild_tensor" | "_rebuild_tensor_v2", &[storage, offset, shape, strides, ..]) => {
                    return self.rebuild(storage, offset, shape, strides).map(Some);
                }
                // A sparse or quantised tensor, or one of another kind: an error only if a network needs it.
                (other, _) => return Ok(Some(TensorView::foreign(other))),
            }
        }
        Ok(None)
    }

    fn rebuild(&self, storage: Id, offset: Id, shape: Id, strides: Id) -> Result<TensorView<'a>, String> {
        let Value::Persistent(identifier) = self.pickle.get(storage) else {
            return Err("expected a storage".into());
        };
        let Storage { element, key } = Storage::of(self.pickle, *identifier)?;
        let element = match element {
            Ok(element) => element,
            Err(class) => return Ok(TensorView::foreign(class)),
        };
        let bytes = *self
            .storages
            .get(key)
            .ok_or_else(|| format!("expected storage \"{}\", got none", printable(key, MAX_SHOWN)))?;
        let offset = self.extent(offset)?.checked_mul(element.size());
        let bytes = offset.and_then(|offset| bytes.get(offset..));
        let bytes =
            bytes.ok_or_else(|| format!("expected an offset within storage \"{}\"", printable(key, MAX_SHOWN)))?;
        TensorView::strided(element, self.extents(shape)?, self.extents(strides)?, bytes)
    }

    fn extents(&self, id: Id) -> Result<Vec<usize>, String> {
        match self.pickle.get(id) {
            Value::Sequence(items) if items.len() <= MAX_DIMENSIONS => {
                items.iter().map(|&id| self.extent(id)).collect()
            }
            _ => Err(format!("expected at most {MAX_DIMENSIONS} extents")),
        }
    }

    fn extent(&self, id: Id) -> Result<usize, String> {
        match self.pickle.get(id) {
            Value::Int(value) => usize::try_from(*value).map_err(|_| format!("expected an extent, got {value}")),
            _ => Err("expected an extent".into()),
        }
    }
}
