//! Torch checkpoints: the zip archive of torch 1.6 and later, and the stream of pickles before it.
//!
//! Both hold a pickle (see `pickle`), in which a tensor is a call of one of torch's rebuilding functions with a
//! storage, an offset, a shape and strides; the storages' bytes lie outside of it. No other call means anything here.

use crate::FormatError;
use crate::view::{ElementType, TensorView};
use residual_files::pickle::{Id, Pickle, PickleError, Value};
use std::collections::HashMap;
use std::io::{Cursor, Read, Seek};
use zip::{CompressionMethod, ZipArchive};

const ZIP_MAGIC: &[u8] = b"PK\x03\x04";

/// The longest pickle that is run. Torch needs some forty operations a tensor.
const MAX_OPERATIONS: usize = 1 << 21;
/// Dictionaries within dictionaries that are entered.
const MAX_DEPTH: usize = 16;
/// Dictionary items that are looked at: shared dictionaries count wherever they stand.
const MAX_ITEMS: usize = 1 << 17;
/// The longest path of a tensor, in bytes.
const MAX_NAME: usize = 512;
/// The most dimensions of a tensor.
const MAX_DIMENSIONS: usize = 16;

/// Whether `bytes` begin as a torch checkpoint does.
pub(crate) fn is_torch(bytes: &[u8]) -> bool {
    bytes.starts_with(ZIP_MAGIC) || matches!(bytes, [0x80, 2..=5, ..])
}

/// The tensors of a torch checkpoint's bytes (`.pth`, `.pt`, `.th`), named by their paths through its dictionaries, and
/// not converted yet. Entries that are no tensors are ignored.
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
    let mut walk = Walk { pickle: &pickle, storages: &storages, items: 0, tensors: Vec::new() };
    let root = pickle.root();
    if walk.items_of(root).is_none() {
        let got = if matches!(root, Value::Call { .. }) {
            "a pickled object (save its state_dict())"
        } else {
            "another value"
        };
        return Err(FormatError::Torch(format!("expected a dictionary of tensors, got {got}")));
    }
    walk.enter(root, "", 0).map_err(FormatError::Torch)?;
    Ok(walk.tensors)
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
        let mut archive = ZipArchive::new(Cursor::new(bytes))?;
        let mut entries: Vec<(String, &'a [u8])> = Vec::new();
        // Entries lie side by side; that the same bytes are read again and again would take for ever.
        let mut left = bytes.len();
        for index in 0..archive.len() {
            entries.push(entry(&mut archive, index, bytes, &mut left)?);
        }
        // Everything lies in one folder, which has the file's name at the time of writing.
        let pickle = entries.iter().filter(|(name, _)| name == "data.pkl" || name.ends_with("/data.pkl"));
        let Some((name, pickle)) = pickle.min_by_key(|(name, _)| name.len()) else {
            return Err(FormatError::Torch("expected an entry data.pkl in the zip archive, got none".into()));
        };
        let folder = name.strip_suffix("data.pkl").unwrap_or_default();
        let mut storages = Storages::new();
        for (name, data) in &entries {
            match name.strip_prefix(folder) {
                Some("byteorder") if data.trim_ascii() != b"little" => {
                    let got = data[..data.len().min(16)].escape_ascii();
                    return Err(FormatError::Torch(format!("byteorder: expected little, got {got}")));
                }
                Some(path) => {
                    if let Some(key) = path.strip_prefix("data/") {
                        storages.insert(key.into(), data);
                    }
                }
                None => {}
            }
        }
        Ok(Self { pickle, storages })
    }
}

/// The name of a zip entry and its bytes, which are a part of the archive's and come off what is `left` of it.
fn entry<'a>(
    archive: &mut ZipArchive<impl Read + Seek>,
    index: usize,
    bytes: &'a [u8],
    left: &mut usize,
) -> Result<(String, &'a [u8]), FormatError> {
    let entry = archive.by_index_raw(index)?;
    let name = entry.name()?.into_owned();
    let fail = |what: String| Err(FormatError::Torch(format!("zip entry \"{}\": {what}", name.escape_default())));
    if entry.compression() != CompressionMethod::Stored || entry.encrypted() {
        return fail(format!("expected uncompressed data, got {:?}", entry.compression()));
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
    // `torch.save` can leave the checksums out; they are 0 then.
    let got = crc32fast::hash(data);
    if crc32 != 0 && got != crc32 {
        return fail(format!("expected checksum {crc32:08x}, got {got:08x}"));
    }
    Ok((name, data))
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
    // The magic number, 0x1950a86a20f9469cfc6c, does not fit 64 bits; its bytes tell.
    let magic = b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
    if bytes.get(2..2 + magic.len()) != Some(magic) {
        return Err("expected torch's magic number, got another pickle".into());
    }
    next()?;
    let version = next()?;
    if !matches!(version.root(), Value::Int(1001)) {
        return Err(format!("expected version 1001 of the stream, got {:?}", version.root()));
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
    let mut elements = HashMap::new();
    for value in object.values() {
        if let Value::Persistent(identifier) = value
            && let Ok(storage) = Storage::of(&object, *identifier)
        {
            elements.insert(storage.key, storage.element);
        }
    }
    let mut storages = Storages::new();
    for &key in keys_of_storages {
        let Some(key) = keys.text(key) else { return Err("expected the name of a storage".into()) };
        let size = match elements.get(key) {
            Some(Ok(element)) => element.size(),
            Some(Err(class)) => return Err(format!("storage \"{key}\": expected numbers, got {class}")),
            None => return Err(format!("storage \"{key}\": expected a use of it, got none")),
        };
        let stored = rest.split_first_chunk().and_then(|(count, data)| {
            let length = usize::try_from(u64::from_le_bytes(*count)).ok()?.checked_mul(size)?;
            data.split_at_checked(length)
        });
        let (data, after) = stored.ok_or_else(|| format!("storage \"{key}\": expected it within the file"))?;
        storages.insert(key.into(), data);
        rest = after;
    }
    Ok((object, storages))
}

fn is_little_endian(system: &Pickle<'_>) -> bool {
    let Value::Dict(items) = system.root() else { return false };
    let is_true = |&[key, value]: &[Id; 2]| {
        system.text(key) == Some("little_endian") && matches!(system.get(value), Value::Bool(true))
    };
    items.iter().any(is_true)
}

/// What a pickle says of a storage: `("storage", class, key, device, number of elements)`, and in old files the part of
/// another storage that it is, or none.
struct Storage<'a> {
    /// The element type, or the name of the class when it is none of ours.
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
            if let Some(tensor) = self.tensor(value).map_err(|what| format!("tensor \"{name}\": {what}"))? {
                self.tensors.push((name, tensor));
            } else if depth < MAX_DEPTH {
                self.enter(value, &name, depth + 1)?;
            }
        }
        Ok(())
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

    /// The tensor that a call of a rebuilding function stands for; `None` for any other value.
    fn tensor(&self, value: &'p Value<'a>) -> Result<Option<TensorView<'a>>, String> {
        let mut value = value;
        // A parameter holds a tensor; nothing holds a parameter.
        for _ in 0..2 {
            let Value::Call { callable, arguments, .. } = value else { return Ok(None) };
            let Value::Global("torch._utils", function) = self.pickle.get(*callable) else { return Ok(None) };
            let Value::Sequence(arguments) = self.pickle.get(*arguments) else { return Ok(None) };
            match (*function, arguments.as_slice()) {
                ("_rebuild_parameter" | "_rebuild_parameter_with_state", [data, ..]) => value = self.pickle.get(*data),
                ("_rebuild_tensor" | "_rebuild_tensor_v2", [storage, offset, shape, strides, ..]) => {
                    return self.rebuild(*storage, *offset, *shape, *strides).map(Some);
                }
                // A sparse or quantised tensor, or one of a subclass: an error only if a network needs it.
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
        let bytes = *self.storages.get(key).ok_or_else(|| format!("expected storage \"{key}\", got none"))?;
        let offset = self.extent(offset)?.checked_mul(element.size());
        let bytes = offset.and_then(|offset| bytes.get(offset..));
        let bytes = bytes.ok_or_else(|| format!("expected an offset within storage \"{key}\""))?;
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
