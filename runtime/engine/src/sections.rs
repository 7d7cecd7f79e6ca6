//! Walks the sections of a WebAssembly binary, nested modules and components included, to find a custom section.
//! The layout: 8 bytes of preamble, then sections of id `u8`, size LEB128, content; a custom section (id 0) starts with
//! its name (LEB128 length, bytes). In a component, sections 1 and 4 hold a module or component with its own preamble.

use std::ops::Range;

use wasmparser::{BinaryReader, ComponentImportSectionReader};

const PREAMBLE: [u8; 4] = *b"\0asm";
const PREAMBLE_BYTES: usize = 8;
const CUSTOM: u8 = 0;
const CORE_MODULE: u8 = 1;
const COMPONENT: u8 = 4;
const COMPONENT_IMPORT: u8 = 10;
const DEPTH_MAX: usize = 4;

/// What the first 8 bytes say a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Component,
    CoreModule,
    Other,
}

pub(crate) fn format(bytes: &[u8]) -> Format {
    match bytes.first_chunk::<PREAMBLE_BYTES>() {
        Some([m0, m1, m2, m3, _, _, layer, 0]) if [*m0, *m1, *m2, *m3] == PREAMBLE => match layer {
            0 => Format::CoreModule,
            1 => Format::Component,
            _ => Format::Other,
        },
        _ => Format::Other,
    }
}

/// The content of the first custom section called `name`, outer ones first.
pub(crate) fn custom<'a>(bytes: &'a [u8], name: &str) -> Option<&'a [u8]> {
    custom_within(bytes, name, DEPTH_MAX)
}

fn custom_within<'a>(bytes: &'a [u8], name: &str, depth: usize) -> Option<&'a [u8]> {
    let nested = format(bytes) == Format::Component;
    let found = sections(bytes).filter(|(id, _)| *id == CUSTOM).find_map(|(_, mut content)| {
        let len = leb128(&mut content)?;
        let (found, data) = content.split_at_checked(len)?;
        (found == name.as_bytes()).then_some(data)
    });
    if found.is_some() || !nested || depth == 0 {
        return found;
    }
    sections(bytes)
        .filter(|(id, _)| matches!(*id, CORE_MODULE | COMPONENT))
        .find_map(|(_, content)| custom_within(content, name, depth - 1))
}

/// The names that the component `bytes` imports; none of what is no component.
pub(crate) fn component_imports(bytes: &[u8]) -> impl Iterator<Item = &str> {
    let imports =
        sections(bytes).filter(|(id, _)| *id == COMPONENT_IMPORT && format(bytes) == Format::Component);
    let imports = imports
        .filter_map(|(_, content)| ComponentImportSectionReader::new(BinaryReader::new(content, 0)).ok());
    imports.flatten().map_while(Result::ok).map(|import| import.name.name)
}

/// A section of a binary.
#[derive(Debug)]
pub(crate) struct Section<'a> {
    id: u8,
    content: &'a [u8],
    /// Where it is, its id and length included.
    pub(crate) place: Range<usize>,
}

impl Section<'_> {
    /// Whether it is a custom section called `name`.
    pub(crate) fn is_custom(&self, name: &str) -> bool {
        let mut content = self.content;
        self.id == CUSTOM
            && leb128(&mut content)
                .and_then(|len| content.get(..len))
                .is_some_and(|found| found == name.as_bytes())
    }
}

/// The outermost sections, to the end of `bytes`; `None` for one that is cut, after which nothing follows.
pub(crate) fn outer(bytes: &[u8]) -> impl Iterator<Item = Option<Section<'_>>> {
    let mut at = Some(PREAMBLE_BYTES);
    std::iter::from_fn(move || {
        let start = at.take().filter(|start| *start < bytes.len())?;
        let section = bytes.get(start..).and_then(|rest| {
            let (&id, mut after) = rest.split_first()?;
            let len = leb128(&mut after)?;
            let (content, next) = after.split_at_checked(len)?;
            Some(Section { id, content, place: start..bytes.len() - next.len() })
        });
        at = section.as_ref().map(|section| section.place.end);
        Some(section)
    })
}

/// Id and content of each section; ends at the first that is cut.
fn sections(bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    outer(bytes).map_while(|section| section.map(|section| (section.id, section.content)))
}

/// An unsigned LEB128 number of at most 32 bits, taken off the front.
fn leb128(bytes: &mut &[u8]) -> Option<usize> {
    let mut value = 0_u64;
    for shift in (0..35).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return usize::try_from(u32::try_from(value).ok()?).ok();
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn section(id: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![id, u8::try_from(content.len()).expect("short")];
        out.extend_from_slice(content);
        out
    }

    fn custom_section(name: &str, data: &str) -> Vec<u8> {
        let mut content = vec![u8::try_from(name.len()).expect("short")];
        content.extend_from_slice(name.as_bytes());
        content.extend_from_slice(data.as_bytes());
        section(CUSTOM, &content)
    }

    #[test]
    fn custom_sections_are_found_outside_and_inside() {
        let module = [b"\0asm\x01\0\0\0".as_slice(), &custom_section("a", "inner")].concat();
        let component =
            [b"\0asm\x0d\0\x01\0".as_slice(), &section(CORE_MODULE, &module), &custom_section("b", "outer")]
                .concat();
        assert_eq!(format(&module), Format::CoreModule);
        assert_eq!(format(&component), Format::Component);
        assert_eq!(custom(&component, "a"), Some(b"inner".as_slice()));
        assert_eq!(custom(&component, "b"), Some(b"outer".as_slice()));
        assert_eq!(custom(&component, "c"), None);
        for end in 0..component.len() {
            let _ = custom(&component[..end], "a");
        }
    }
}
