//! The kernel's own description of its types (`/sys/kernel/btf/vmlinux`, `Documentation/bpf/btf.rst`), as far as it takes
//! to find members of structures and per-CPU variables.

use std::{fs, io};

use thiserror::Error;

const FILE: &str = "/sys/kernel/btf/vmlinux";

/// `BTF_MAGIC`.
const MAGIC: u16 = 0xeb9f;
/// The section of per-CPU variables.
const PER_CPU: &str = ".data..percpu";

/// Kinds of types (`include/uapi/linux/btf.h`).
const KIND_INT: u32 = 1;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_TYPEDEF: u32 = 8;
const KIND_VOLATILE: u32 = 9;
const KIND_CONST: u32 = 10;
const KIND_RESTRICT: u32 = 11;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;
const KIND_DECL_TAG: u32 = 17;
const KIND_TYPE_TAG: u32 = 18;
const KIND_ENUM64: u32 = 19;

/// Why something could not be found.
#[derive(Debug, Error)]
pub enum BtfError {
    /// The kernel does not describe its types.
    #[error("cannot read {FILE} (the kernel needs CONFIG_DEBUG_INFO_BTF=y)")]
    Read(#[source] io::Error),
    /// It is not what the format wants.
    #[error("{FILE} is not in the format known")]
    Malformed,
    /// This kernel has no such thing.
    #[error("this kernel has no {0}")]
    Missing(String),
}

/// The description, read.
#[derive(Debug)]
pub struct Btf {
    bytes: Vec<u8>,
    /// Where the strings begin.
    strings: usize,
    /// Where each type begins; type 0 is `void`.
    types: Vec<usize>,
}

/// The fixed part of a type.
#[derive(Clone, Copy)]
struct Type {
    name: u32,
    kind: u32,
    /// How many elements follow.
    elements: usize,
    /// Whether offsets of members share their word with the size of bit fields.
    bit_fields: bool,
    /// The type it leads to, for some kinds.
    target: u32,
    /// Where the variable part begins.
    at: usize,
}

impl Btf {
    /// Reads that of the running kernel.
    ///
    /// # Errors
    /// When it has none.
    pub fn kernel() -> Result<Self, BtfError> {
        Self::of_bytes(fs::read(FILE).map_err(BtfError::Read)?).ok_or(BtfError::Malformed)
    }

    fn of_bytes(bytes: Vec<u8>) -> Option<Self> {
        if u16::from_ne_bytes(*bytes.first_chunk()?) != MAGIC {
            return None;
        }
        let mut btf = Self {
            bytes,
            strings: 0,
            types: vec![0],
        };
        // `struct btf_header`: magic, version, flags, hdr_len, type_off, type_len, str_off, str_len.
        let header = btf.word(4)? as usize;
        let mut at = header + btf.word(8)? as usize;
        let end = at + btf.word(12)? as usize;
        btf.strings = header + btf.word(16)? as usize;
        while at < end {
            btf.types.push(at);
            let of = btf.type_at(at)?;
            at = of.at + length(of)?;
        }
        Some(btf)
    }

    fn word(&self, at: usize) -> Option<u32> {
        Some(u32::from_ne_bytes(
            *self.bytes.get(at..)?.first_chunk::<4>()?,
        ))
    }

    fn string(&self, offset: u32) -> Option<&str> {
        let rest = self.bytes.get(self.strings + offset as usize..)?;
        std::ffi::CStr::from_bytes_until_nul(rest)
            .ok()?
            .to_str()
            .ok()
    }

    fn type_at(&self, at: usize) -> Option<Type> {
        let info = self.word(at + 4)?;
        Some(Type {
            name: self.word(at)?,
            kind: info >> 24 & 0x1f,
            elements: (info & 0xffff) as usize,
            bit_fields: info >> 31 == 1,
            target: self.word(at + 8)?,
            at: at + 12,
        })
    }

    fn by_id(&self, id: u32) -> Option<Type> {
        self.type_at(*self.types.get(id as usize)?)
    }

    /// Follows names given to other types, and qualifiers.
    fn resolved(&self, id: u32) -> Option<Type> {
        let mut of = self.by_id(id)?;
        while matches!(
            of.kind,
            KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_RESTRICT | KIND_TYPE_TAG
        ) {
            of = self.by_id(of.target)?;
        }
        Some(of)
    }

    fn named(&self, kind: u32, name: &str) -> Option<Type> {
        self.types
            .iter()
            .skip(1)
            .filter_map(|at| self.type_at(*at))
            .find(|of| of.kind == kind && self.string(of.name) == Some(name))
    }

    /// Offset in bytes of a member from the beginning of the structure `of`; `path` leads to it through the structures
    /// that lie in each other.
    ///
    /// # Errors
    /// When the kernel has no such structure or member.
    pub fn offset_of(&self, of: &str, path: &[&str]) -> Result<u64, BtfError> {
        let find = || {
            let mut within = self.named(KIND_STRUCT, of)?;
            let mut offset = 0;
            for name in path {
                let (more, member) = self.member(within, name)?;
                offset += more;
                within = self.resolved(member)?;
            }
            Some(offset)
        };
        find().ok_or_else(|| BtfError::Missing(format!("{of}.{}", path.join("."))))
    }

    /// Offset and type of the member `name`, be it in a structure without a name inside.
    fn member(&self, of: Type, name: &str) -> Option<(u64, u32)> {
        for element in 0..of.elements {
            let at = of.at + 12 * element;
            let target = self.word(at + 4)?;
            let mut bits = self.word(at + 8)?;
            if of.bit_fields {
                bits &= 0x00ff_ffff;
            }
            let offset = u64::from(bits / 8);
            match self.string(self.word(at)?)? {
                found if found == name => return Some((offset, target)),
                "" => {
                    let inner = self.resolved(target)?;
                    if matches!(inner.kind, KIND_STRUCT | KIND_UNION)
                        && let Some((more, target)) = self.member(inner, name)
                    {
                        return Some((offset + more, target));
                    }
                }
                _ => {}
            }
        }
        None
    }

    /// Offset in bytes of a per-CPU variable from the beginning of all of them.
    ///
    /// # Errors
    /// When the kernel has no such variable.
    pub fn per_cpu(&self, name: &str) -> Result<u64, BtfError> {
        let find = || {
            let section = self.named(KIND_DATASEC, PER_CPU)?;
            (0..section.elements).find_map(|element| {
                let at = section.at + 12 * element;
                let variable = self.by_id(self.word(at)?)?;
                (self.string(variable.name)? == name)
                    .then(|| self.word(at + 4).map(u64::from))
                    .flatten()
            })
        };
        find().ok_or_else(|| BtfError::Missing(format!("per-CPU variable {name}")))
    }
}

/// Bytes of the variable part; `None` of a kind that is not known.
fn length(of: Type) -> Option<usize> {
    Some(match of.kind {
        KIND_INT | KIND_VAR | KIND_DECL_TAG => 4,
        KIND_ARRAY => 12,
        KIND_STRUCT | KIND_UNION | KIND_DATASEC | KIND_ENUM64 => 12 * of.elements,
        KIND_ENUM | KIND_FUNC_PROTO => 8 * of.elements,
        0..KIND_ENUM64 => 0,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `typedef struct { int a; struct { int b; }; int c: 3; } t; struct s { int x; t y; }`, and per-CPU variables.
    fn sample() -> Vec<u8> {
        let mut strings = Vec::new();
        let mut string = |text: &str| {
            let at = strings.len() as u32;
            strings.extend(text.bytes().chain([0]));
            at
        };
        let info =
            |kind: u32, elements: u32, bit_fields: u32| bit_fields << 31 | kind << 24 | elements;
        let names = [
            "", "int", "a", "b", "c", "t", "s", "x", "y", PER_CPU, "one", "two",
        ];
        let places: Vec<u32> = names.iter().map(|name| string(name)).collect();
        let place = |name| places[names.iter().position(|one| *one == name).expect("a name")];
        let words: Vec<u32> = [
            vec![place("int"), info(KIND_INT, 0, 0), 4, 32], // 1
            vec![0, info(KIND_STRUCT, 1, 0), 4, place("b"), 1, 0], // 2
            vec![0, info(KIND_STRUCT, 3, 1), 12],            // 3
            vec![place("a"), 1, 0, 0, 2, 32, place("c"), 1, 3 << 24 | 64],
            vec![place("t"), info(KIND_TYPEDEF, 0, 0), 3], // 4
            vec![place("s"), info(KIND_STRUCT, 2, 0), 16], // 5
            vec![place("x"), 1, 0, place("y"), 4, 32],
            vec![place("one"), info(KIND_VAR, 0, 0), 1, 1], // 6
            vec![place("two"), info(KIND_VAR, 0, 0), 1, 1], // 7
            vec![place(PER_CPU), info(KIND_DATASEC, 2, 0), 4160], // 8
            vec![6, 64, 4, 7, 4096, 4],
        ]
        .concat();
        let types: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let mut bytes = MAGIC.to_ne_bytes().to_vec();
        bytes.extend([1, 0]);
        for word in [24, 0, types.len(), types.len(), strings.len()] {
            bytes.extend((word as u32).to_ne_bytes());
        }
        bytes.extend(types);
        bytes.extend(strings);
        bytes
    }

    #[test]
    fn members_are_found_through_names_and_the_nameless() {
        let btf = Btf::of_bytes(sample()).expect("the format");
        for (path, offset) in [
            (&["x"][..], 0),
            (&["y"], 4),
            (&["y", "a"], 4),
            (&["y", "b"], 8),
            (&["y", "c"], 12),
        ] {
            assert_eq!(btf.offset_of("s", path).expect("a member"), offset);
        }
        assert_eq!(btf.per_cpu("two").expect("a variable"), 4096);
        for (error, told) in [
            (btf.offset_of("s", &["y", "z"]), "no s.y.z"),
            (btf.offset_of("t", &["a"]), "no t.a"),
            (btf.per_cpu("three"), "no per-CPU variable three"),
        ] {
            let error = error.expect_err(told).to_string();
            assert!(error.contains(told), "{error}");
        }
    }

    #[test]
    fn what_is_cut_short_is_refused() {
        let whole = sample();
        for length in [0, 1, 23, 60] {
            assert!(
                Btf::of_bytes(whole[..length].to_vec()).is_none(),
                "{length}"
            );
        }
    }
}
