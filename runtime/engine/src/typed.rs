//! The typed form of the contract, `process-records`: from a batch to typed records, and from typed verdicts to the verdict
//! buffer, which is checked as that of any module.

use bytes::Bytes;
use millstream_types::limits::{HEADER_NAME_BYTES_MAX, HEADERS_MAX};
use millstream_types::{
    BatchError, BatchView, Check, Field, Header, Output, RecordView, Timestamp, TopicName, VerdictWriter,
};
use wasmtime::Store;
use wasmtime::component::{ComponentType, Func, Lift, Lower};

use crate::contract::GuestFailure;
use crate::fault::{Fault, FaultKind};
use crate::host::Host;

#[derive(ComponentType, Lower)]
#[component(record)]
pub(crate) struct GuestRecord<'a> {
    offset: u64,
    timestamp: u64,
    key: Option<&'a [u8]>,
    headers: Vec<GuestHeader<'a>>,
    payload: Option<&'a [u8]>,
}

#[derive(ComponentType, Lower)]
#[component(record)]
pub(crate) struct GuestHeader<'a> {
    name: &'a str,
    value: &'a [u8],
}

#[derive(ComponentType, Lift)]
#[component(variant)]
pub(crate) enum GuestVerdict {
    #[component(name = "keep")]
    Keep,
    #[component(name = "drop")]
    Drop,
    #[component(name = "route")]
    Route(Vec<String>),
    #[component(name = "emit")]
    Emit(Vec<GuestOutput>),
    #[component(name = "reject")]
    Reject(String),
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct GuestOutput {
    topic: Option<String>,
    key: GuestPart,
    headers: Option<Vec<GuestOwnHeader>>,
    payload: GuestPart,
}

#[derive(ComponentType, Lift)]
#[component(record)]
pub(crate) struct GuestOwnHeader {
    name: String,
    value: Vec<u8>,
}

#[derive(ComponentType, Lift)]
#[component(variant)]
pub(crate) enum GuestPart {
    #[component(name = "inherit")]
    Inherit,
    #[component(name = "remove")]
    Remove,
    #[component(name = "set")]
    Set(Vec<u8>),
}

pub(crate) type Params<'a> = (u64, &'a [GuestRecord<'a>]);
pub(crate) type Results = (Result<Vec<GuestVerdict>, GuestFailure>,);

/// Calls `process-records` with the records of `batch`; answers the verdict buffer, as `process` would.
///
/// # Errors
/// What the call came back with; the inner ones are the module's, or that its verdicts cannot be written down.
pub(crate) fn call(
    process_records: &Func,
    store: &mut Store<Host>,
    batch: &[u8],
) -> wasmtime::Result<Result<Vec<u8>, Fault>> {
    let view = BatchView::new(batch, Check::Header);
    let typed = view.and_then(|view| Ok((clock(view.timestamp()), records(&view)?)));
    let (now, records) = match typed {
        Ok(typed) => typed,
        Err(error) => return Ok(Err(Fault::new(FaultKind::Unusable, error.to_string()))),
    };
    let process_records = process_records.typed::<Params<'_>, Results>(&*store)?;
    let (answer,) = process_records.call(store, (now, &records))?;
    Ok(answer.map_err(Fault::from).and_then(verdict_buffer))
}

fn records<'a>(view: &BatchView<'a>) -> Result<Vec<GuestRecord<'a>>, BatchError> {
    view.records().enumerate().map(|(index, record)| guest_record(index, &record)).collect()
}

fn guest_record<'a>(index: usize, record: &RecordView<'a>) -> Result<GuestRecord<'a>, BatchError> {
    let header = |(name, value)| {
        // What was stored, and what modules emit, is checked; this is not for the guest to find out otherwise.
        let name = std::str::from_utf8(name)
            .map_err(|_| BatchError::Record { index, fault: "a header's name is not UTF-8" })?;
        Ok(GuestHeader { name, value })
    };
    Ok(GuestRecord {
        offset: record.offset,
        timestamp: clock(record.timestamp),
        key: record.key,
        headers: record.headers.iter().map(header).collect::<Result<_, _>>()?,
        payload: record.payload,
    })
}

/// The broker stamps no time before 1970.
fn clock(timestamp: Timestamp) -> u64 {
    u64::try_from(timestamp).unwrap_or_default()
}

/// Writes the verdicts as a module of the other form would have. How many there are, and what was announced, is checked there.
fn verdict_buffer(verdicts: Vec<GuestVerdict>) -> Result<Vec<u8>, Fault> {
    let mut writer = VerdictWriter::with_capacity(verdicts.len());
    for (index, verdict) in verdicts.into_iter().enumerate() {
        let bad = |why: String| {
            Fault::new(FaultKind::BadVerdicts, format!("verdict {index} is malformed: {why}")).at(index)
        };
        match verdict {
            GuestVerdict::Keep => writer.keep(),
            GuestVerdict::Drop => writer.drop(),
            GuestVerdict::Reject(reason) => writer.reject(&reason),
            GuestVerdict::Route(topics) => {
                let outputs = topics.into_iter().map(|topic| topic_name(topic).map(Output::to_topic));
                writer.emit(&outputs.collect::<Result<Vec<_>, _>>().map_err(bad)?);
            }
            GuestVerdict::Emit(outputs) => {
                let outputs = outputs.into_iter().map(output).collect::<Result<Vec<_>, _>>();
                writer.emit(&outputs.map_err(bad)?);
            }
        }
    }
    Ok(writer.finish())
}

fn topic_name(topic: String) -> Result<TopicName, String> {
    TopicName::new(topic).map_err(|error| error.to_string())
}

fn output(output: GuestOutput) -> Result<Output, String> {
    let headers = match output.headers {
        None => Field::Inherit,
        Some(headers) if headers.len() > HEADERS_MAX => {
            let found = headers.len();
            return Err(format!("an output has {found} headers, above the limit of {HEADERS_MAX}"));
        }
        Some(headers) => Field::Set(headers.into_iter().map(header).collect::<Result<_, _>>()?),
    };
    Ok(Output {
        topic: output.topic.map(topic_name).transpose()?,
        key: field(output.key),
        headers,
        payload: field(output.payload),
    })
}

fn header(header: GuestOwnHeader) -> Result<Header, String> {
    let found = header.name.len();
    if !(1..=HEADER_NAME_BYTES_MAX).contains(&found) {
        return Err(format!(
            "a header of an output has a name of {found} bytes; 1 to {HEADER_NAME_BYTES_MAX} are allowed"
        ));
    }
    Ok(Header { name: header.name, value: Bytes::from(header.value) })
}

fn field(part: GuestPart) -> Field<Option<Bytes>> {
    match part {
        GuestPart::Inherit => Field::Inherit,
        GuestPart::Remove => Field::Set(None),
        GuestPart::Set(bytes) => Field::Set(Some(Bytes::from(bytes))),
    }
}
