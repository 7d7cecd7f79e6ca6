//! What a module lets through to the next one.

use millstream_types::{
    BatchBuilder, BatchError, BatchView, Field, HeadersIn, OutputView, RecordBatch, RecordParts, RecordView,
};

use super::picks::Picks;

/// Records on their way through the modules.
#[derive(Debug)]
pub(crate) enum Flow {
    /// Of the source batch.
    Source(Picks),
    /// Of a batch that some module's emits made, with the offsets of their sources.
    Built(RecordBatch, Picks),
}

impl Flow {
    pub(crate) fn picks(&self) -> &Picks {
        match self {
            Self::Source(picks) | Self::Built(_, picks) => picks,
        }
    }

    /// The batch that the picks are of.
    pub(crate) fn view<'a>(&'a self, source: BatchView<'a>) -> BatchView<'a> {
        match self {
            Self::Source(_) => source,
            Self::Built(batch, _) => batch.view(),
        }
    }

    /// The same batch with other picks.
    pub(crate) fn with_picks(self, picks: Picks) -> Self {
        match self {
            Self::Source(_) => Self::Source(picks),
            Self::Built(batch, _) => Self::Built(batch, picks),
        }
    }
}

/// What one module let through.
pub(crate) enum Passed {
    /// Some of the records that it was given.
    Picked(Picks),
    /// Records of which it emitted some.
    Built(RecordBatch),
}

/// Collects what one module lets through: picks, until it emits.
pub(crate) struct Through<'a> {
    view: BatchView<'a>,
    picks: Picks,
    built: Option<BatchBuilder>,
}

impl<'a> Through<'a> {
    pub(crate) fn new(view: BatchView<'a>) -> Self {
        Self { view, picks: Picks::default(), built: None }
    }

    pub(crate) fn keep(&mut self, picks: &Picks) -> Result<(), BatchError> {
        match &mut self.built {
            None => self.picks.extend(picks),
            Some(built) => picks.indices().try_for_each(|index| push(built, &self.view, index))?,
        }
        Ok(())
    }

    #[inline]
    pub(crate) fn keep_one(&mut self, index: usize) -> Result<(), BatchError> {
        match &mut self.built {
            None => self.picks.push(index..index + 1),
            Some(built) => push(built, &self.view, index)?,
        }
        Ok(())
    }

    /// Adds a record that takes the place of `source`.
    pub(crate) fn emit(&mut self, source: &RecordView<'_>, parts: RecordParts<'_>) -> Result<(), BatchError> {
        let view = self.view;
        let built = match &mut self.built {
            Some(built) => built,
            None => {
                let mut built = BatchBuilder::new()
                    .with_producer(view.producer())
                    .with_stamp(view.base_offset(), view.timestamp());
                self.picks.indices().try_for_each(|index| push(&mut built, &view, index))?;
                self.built.insert(built)
            }
        };
        built.push_at(delta(&view, source), parts)
    }

    /// All that was let through.
    pub(crate) fn finish(self) -> Result<Passed, BatchError> {
        match self.built {
            Some(mut built) if !built.is_empty() => built.build().map(Passed::Built),
            _ => Ok(Passed::Picked(self.picks)),
        }
    }
}

fn push(built: &mut BatchBuilder, view: &BatchView<'_>, index: usize) -> Result<(), BatchError> {
    let record =
        view.record(index).ok_or(BatchError::Record { index, fault: "it is past the end of the batch" })?;
    built.push_at(delta(view, &record), &record)
}

/// How far `record` is from the base offset of the batch it is of.
pub(crate) fn delta(view: &BatchView<'_>, record: &RecordView<'_>) -> u32 {
    u32::try_from(record.offset.saturating_sub(view.base_offset()))
        .expect("an offset is its batch's base and a u32")
}

/// The record that `output` makes of `source`.
pub(crate) fn parts<'a>(source: &RecordView<'a>, output: &OutputView<'a>) -> RecordParts<'a> {
    let mut parts = RecordParts::from(source);
    if let Field::Set(key) = output.key {
        parts.key = key;
    }
    if let Field::Set(headers) = output.headers {
        parts.headers = HeadersIn::Encoded(headers);
    }
    if let Field::Set(payload) = output.payload {
        parts.payload = payload;
    }
    if output.topic.is_some() {
        // Another topic's: the id would make siblings duplicates there, and the delay has passed.
        parts.message_id = None;
        parts.deliver_at = None;
    }
    parts
}

/// About the bytes that `parts` have as a record, never fewer.
pub(crate) fn bytes_of(parts: &RecordParts<'_>) -> usize {
    const FIXED: usize = 64;
    const PER_HEADER: usize = 6;
    let headers: usize = match parts.headers {
        HeadersIn::Owned(headers) => {
            headers.iter().map(|header| PER_HEADER + header.name.len() + header.value.len()).sum()
        }
        HeadersIn::Encoded(headers) => {
            headers.iter().map(|(name, value)| PER_HEADER + name.len() + value.len()).sum()
        }
    };
    let len = |part: Option<&[u8]>| part.map_or(0, <[u8]>::len);
    FIXED + headers + len(parts.key) + len(parts.payload) + len(parts.message_id)
}
