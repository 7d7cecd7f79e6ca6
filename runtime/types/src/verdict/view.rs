//! Reading verdicts, on the broker's side: everything is checked once, up front.

use super::{
    BODIES_LEN_AT, COUNT_AT, DROP, EMIT, HEADER_BYTES, HEADERS, KEEP, KEY, MAGIC, NO_KEY, NO_PAYLOAD,
    OUTPUT_FLAGS_KNOWN, PAYLOAD, REJECT, TOPIC, VERSION,
};
use crate::bytes_io::{Reader, u32_at};
use crate::limits::{OUTPUTS_PER_RECORD_MAX, REASON_BYTES_MAX};
use crate::{Field, HeadersView, TopicName};

/// Why bytes are not the verdicts of a batch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerdictError {
    /// Not a verdict buffer of a known version.
    #[error("the module answered {0:02x?}..., which is not a verdict buffer of version 1")]
    Header(Vec<u8>),
    /// Another number of verdicts than records.
    #[error("the module gave {found} verdicts for {wanted} records")]
    Count {
        /// Records handed in.
        wanted: usize,
        /// Verdicts that came back.
        found: usize,
    },
    /// A tag that is none of keep, drop, emit, reject.
    #[error("verdict {index} has the unknown tag {tag}")]
    Tag {
        /// Position in the batch.
        index: usize,
        /// What stood there.
        tag: u8,
    },
    /// A body that is cut or contradicts its layout.
    #[error("verdict {index} is malformed: {fault}")]
    Body {
        /// Position in the batch.
        index: usize,
        /// What is wrong.
        fault: String,
    },
    /// Bytes that belong to no verdict.
    #[error("{0} bytes follow the last verdict")]
    Trailing(usize),
}

/// The verdicts of a batch, checked.
#[derive(Debug, Clone, Copy)]
pub struct VerdictsView<'a> {
    tags: &'a [u8],
    bodies: &'a [u8],
}

/// One verdict.
#[derive(Debug, Clone, Copy)]
pub enum Verdict<'a> {
    /// The record goes on as it is.
    Keep,
    /// The record ends here.
    Drop,
    /// These take its place.
    Emit(OutputsView<'a>),
    /// The record is bad, and why.
    Reject(&'a str),
}

/// The outputs of one emit verdict.
#[derive(Debug, Clone, Copy)]
pub struct OutputsView<'a> {
    count: u32,
    encoded: &'a [u8],
}

/// One output, read in place.
#[derive(Debug, Clone)]
pub struct OutputView<'a> {
    /// Where it goes; `None`: to the reader.
    pub topic: Option<&'a str>,
    /// `Set(None)` removes the key.
    pub key: Field<Option<&'a [u8]>>,
    /// Replaces all headers.
    pub headers: Field<HeadersView<'a>>,
    /// `Set(None)` makes a tombstone.
    pub payload: Field<Option<&'a [u8]>>,
}

impl<'a> VerdictsView<'a> {
    /// Reads `bytes` as the verdicts of `records` records. Checks everything, topic names included.
    ///
    /// # Errors
    /// [`VerdictError`] naming the verdict and its fault.
    pub fn new(bytes: &'a [u8], records: usize) -> Result<Self, VerdictError> {
        let not_verdicts = || VerdictError::Header(bytes.iter().take(8).copied().collect());
        let (header, rest) = bytes.split_at_checked(HEADER_BYTES).ok_or_else(not_verdicts)?;
        if !header.starts_with(&MAGIC) || header.get(MAGIC.len()) != Some(&VERSION) {
            return Err(not_verdicts());
        }
        let found = u32_at(header, COUNT_AT).unwrap_or_default() as usize;
        if found != records {
            return Err(VerdictError::Count { wanted: records, found });
        }
        let bodies_len = u32_at(header, BODIES_LEN_AT).unwrap_or_default() as usize;
        let (tags, bodies) = rest.split_at_checked(found).ok_or_else(not_verdicts)?;
        if bodies.len() != bodies_len {
            return Err(not_verdicts());
        }
        let verdicts = Self { tags, bodies };
        verdicts.check()?;
        Ok(verdicts)
    }

    fn check(&self) -> Result<(), VerdictError> {
        if self.is_plain() {
            return Ok(());
        }
        let mut reader = Reader::new(self.bodies);
        for (index, &tag) in self.tags.iter().enumerate() {
            let body = |fault: String| VerdictError::Body { index, fault };
            match tag {
                KEEP | DROP => {}
                EMIT => {
                    let count = reader.u32().ok_or_else(|| body("it is cut".into()))?;
                    if count as usize > OUTPUTS_PER_RECORD_MAX {
                        return Err(body(format!(
                            "{count} outputs, above the limit of {OUTPUTS_PER_RECORD_MAX}"
                        )));
                    }
                    for _ in 0..count {
                        check_output(&mut reader).map_err(body)?;
                    }
                }
                REJECT => {
                    let reason = reader.block().ok_or_else(|| body("it is cut".into()))?;
                    if reason.len() > REASON_BYTES_MAX || std::str::from_utf8(reason).is_err() {
                        return Err(body("its reason is not UTF-8 of at most 4 KiB".into()));
                    }
                }
                tag => return Err(VerdictError::Tag { index, tag }),
            }
        }
        if reader.is_empty() { Ok(()) } else { Err(VerdictError::Trailing(reader.len())) }
    }

    /// Whether every record is kept or dropped.
    pub fn is_plain(&self) -> bool {
        self.bodies.is_empty() && self.tags.iter().all(|&tag| tag == KEEP || tag == DROP)
    }

    /// Number of verdicts.
    pub fn len(&self) -> usize {
        self.tags.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tags.is_empty()
    }

    /// Whether every record is kept, so that the batch can go on untouched.
    pub fn all_kept(&self) -> bool {
        self.tags.iter().all(|&tag| tag == KEEP)
    }

    /// Every verdict, in record order.
    pub fn iter(&self) -> impl Iterator<Item = Verdict<'a>> + use<'a> {
        let mut reader = Reader::new(self.bodies);
        self.tags.iter().map_while(move |&tag| match tag {
            KEEP => Some(Verdict::Keep),
            DROP => Some(Verdict::Drop),
            EMIT => {
                let count = reader.u32()?;
                let mut encoded = reader.take(reader.len())?;
                let all = encoded;
                let mut inside = Reader::new(encoded);
                for _ in 0..count {
                    read_output(&mut inside)?;
                }
                encoded = encoded.get(..encoded.len() - inside.len())?;
                reader = Reader::new(all.get(encoded.len()..)?);
                Some(Verdict::Emit(OutputsView { count, encoded }))
            }
            _ => reader.block().and_then(|reason| std::str::from_utf8(reason).ok()).map(Verdict::Reject),
        })
    }
}

impl<'a> OutputsView<'a> {
    /// Number of outputs.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Every output, in the module's order.
    pub fn iter(&self) -> impl Iterator<Item = OutputView<'a>> + use<'a> {
        let mut reader = Reader::new(self.encoded);
        (0..self.count).map_while(move |_| read_output(&mut reader))
    }
}

fn read_output<'a>(reader: &mut Reader<'a>) -> Option<OutputView<'a>> {
    let flags = reader.u8()?;
    let topic = match flags & TOPIC {
        0 => None,
        _ => {
            let len = reader.u16()?;
            Some(std::str::from_utf8(reader.take(usize::from(len))?).ok()?)
        }
    };
    let key = read_field(reader, flags, KEY, NO_KEY)?;
    let headers = match flags & HEADERS {
        0 => Field::Inherit,
        _ => {
            let all = reader.take(reader.len())?;
            let mut inside = Reader::new(all);
            HeadersView::default().check_from(&mut inside).ok()?;
            let (encoded, rest) = all.split_at_checked(all.len() - inside.len())?;
            *reader = Reader::new(rest);
            Field::Set(HeadersView { encoded })
        }
    };
    let payload = read_field(reader, flags, PAYLOAD, NO_PAYLOAD)?;
    Some(OutputView { topic, key, headers, payload })
}

fn read_field<'a>(
    reader: &mut Reader<'a>,
    flags: u8,
    set: u8,
    removed: u8,
) -> Option<Field<Option<&'a [u8]>>> {
    if flags & set != 0 {
        return reader.block().map(|bytes| Field::Set(Some(bytes)));
    }
    Some(if flags & removed != 0 { Field::Set(None) } else { Field::Inherit })
}

fn check_output(reader: &mut Reader<'_>) -> Result<(), String> {
    let mut ahead = *reader;
    let flags = ahead.u8().ok_or("an output is cut")?;
    if flags & !OUTPUT_FLAGS_KNOWN != 0 {
        return Err(format!("an output has the unknown flags {flags:#010b}"));
    }
    let output = read_output(reader).ok_or("an output is cut, or its headers or topic are malformed")?;
    if let Some(topic) = output.topic {
        TopicName::new(topic).map_err(|error| error.to_string())?;
    }
    Ok(())
}
