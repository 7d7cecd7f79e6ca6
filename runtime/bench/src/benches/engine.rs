//! The module engine alone, in this process: what a record costs beside native code, and what modules and instances cost.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use millstream_engine::{Bound, Compiler, Engine, Pipeline, Settings as EngineSettings};
use millstream_filter_predicate::{Predicate, Reach};
use millstream_types::RecordBatch;

use super::say;
use crate::{
    Error, Report, Settings,
    child::own_resident_bytes,
    report::Goal,
    scratch::scratch,
    stats::median,
    subject::{Bed, batch, bind, header_filter, json_filter, load, stock},
};

/// Records of a batch: as many as a module is given in one call.
const RECORDS: usize = 256;
/// How long one turn of one subject takes, and how many turns a round has.
const TURN: Duration = Duration::from_millis(10);
const TURNS: usize = 20;
/// Instances made to find out how long one takes.
const STARTS: usize = 200;
/// Modules bound to find out what one takes.
const BOUND: usize = 1_000;

pub(super) async fn engine(settings: &Settings, report: &mut Report) -> Result<(), Error> {
    let own = settings.clone();
    let measured = tokio::task::spawn_blocking(move || -> Result<Vec<(&'static str, f64)>, Error> {
        let mut samples = Vec::new();
        for round in 0..own.rounds {
            say(&own, round, "records");
            records(&own, &mut samples)?;
            say(&own, round, "instances");
            instances(&own, &mut samples)?;
            say(&own, round, "compiling and binding");
            compiling(&own, &mut samples)?;
        }
        Ok(samples)
    });
    for (figure, value) in measured.await?? {
        report.sample(figure, value);
    }
    report.goal("header_filter_ns", Goal::AtMost(60.0));
    report.goal("instance_us", Goal::AtMost(50.0));
    report.goal("bound_kib", Goal::AtMost(1_024.0));
    report.goal("cached_bind_ms", Goal::AtMost(5.0));
    for (ratio, subject, limit, goal) in [
        ("header_filter_to_native", "header_filter_ns", "native_header_ns", Goal::AtMost(6.0)),
        ("json_predicate_to_native", "json_predicate_ns", "native_json_ns", Goal::AtMost(2.5)),
        ("compile_apart_to_here", "compile_apart_ms", "compile_here_ms", Goal::None),
    ] {
        report.ratio(ratio, subject, limit, goal);
    }
    Ok(())
}

/// ns a record, modules and native code in turns.
fn records(settings: &Settings, samples: &mut Vec<(&'static str, f64)>) -> Result<(), Error> {
    let engine = new_engine(EngineSettings::default())?;
    let batch = batch(RECORDS, settings.record_bytes, settings.keep_one_in)?;
    let (name, value, config) = header_filter();
    let json = json_filter();
    let predicate = Predicate::parse(&json, "config", Reach::HeadersAndJson);
    let predicate = predicate.map_err(|error| Error::engine("parse a condition")(error.to_string()))?;
    let pipeline = |wasm: &[u8], config: &str| -> Result<Pipeline, Error> {
        Ok(Pipeline::new(vec![bind(&load(&engine, wasm)?, config)?]))
    };
    let mut beds = [
        ("header_filter_ns", Bed::pipeline(pipeline(stock("std/headers"), &config)?, &batch)),
        (
            "native_header_ns",
            native(&batch, |batch| {
                let matches = |header: Option<&[u8]>| header == Some(value.as_bytes());
                batch.view().records().filter(|record| matches(record.header(name))).count()
            }),
        ),
        ("json_predicate_ns", Bed::pipeline(pipeline(stock("std/json"), &json.to_string())?, &batch)),
        (
            "native_json_ns",
            native(&batch, |batch| {
                let matches = |payload: &[u8]| {
                    let fields = predicate.pointers().pick(payload);
                    fields.is_ok_and(|fields| predicate.matches(|_| None, &fields))
                };
                batch.view().records().filter(|record| record.payload.is_some_and(matches)).count()
            }),
        ),
        ("floor_ns", Bed::pipeline(pipeline(millstream_filters::floor(), "{}")?, &batch)),
    ];
    for _ in 0..TURNS {
        for (_, bed) in &mut beds {
            bed.round(TURN)?;
        }
    }
    samples.extend(beds.iter_mut().map(|(figure, bed)| (*figure, bed.take())));
    Ok(())
}

/// A closure over the records of `batch`.
fn native<'a>(batch: &'a RecordBatch, run: impl Fn(&RecordBatch) -> usize + 'a) -> Bed<'a> {
    Bed::native(batch.view().len(), move || {
        black_box(run(black_box(batch)));
        Ok(())
    })
}

/// What an instance takes, and what a bound module does.
fn instances(settings: &Settings, samples: &mut Vec<(&'static str, f64)>) -> Result<(), Error> {
    let count = u32::try_from(BOUND + 8).expect("a thousand");
    let engine = new_engine(EngineSettings { instances_max: count, ..EngineSettings::default() })?;
    let module = load(&engine, stock("std/headers"))?;
    let (.., config) = header_filter();
    let mut one = bind(&module, &config)?;
    let mut starts = Vec::with_capacity(STARTS);
    for _ in 0..STARTS {
        let took = one.restart().map_err(Error::engine("make an instance"))?;
        starts.push(took.as_secs_f64() * 1e6);
    }
    samples.extend(median(&starts).map(|micros| ("instance_us", micros)));
    drop(one);
    let batch = batch(RECORDS, settings.record_bytes, settings.keep_one_in)?;
    let Some(before) = own_resident_bytes() else { return Ok(()) };
    let mut bound = Vec::with_capacity(BOUND);
    for _ in 0..BOUND {
        let mut pipeline = Pipeline::new(vec![bind(&module, &config)?]);
        pipeline.run(&batch, 0..RECORDS).map_err(Error::engine("run a module"))?;
        bound.push(pipeline);
    }
    let each = |now: u64| now.saturating_sub(before) as f64 / 1_024.0 / BOUND as f64;
    samples.extend(own_resident_bytes().map(|now| ("bound_kib", each(now))));
    bound.iter_mut().for_each(Pipeline::rest);
    samples.extend(own_resident_bytes().map(|now| ("bound_at_rest_kib", each(now))));
    Ok(())
}

/// What compiling takes, here and in a process of its own, and what binding takes where that was done before.
fn compiling(settings: &Settings, samples: &mut Vec<(&'static str, f64)>) -> Result<(), Error> {
    let (dir, other) = (scratch(settings)?, scratch(settings)?);
    let (.., config) = header_filter();
    let first = |dir: &std::path::Path, compiler: Option<Compiler>| -> Result<f64, Error> {
        let cache_dir = Some(dir.to_owned());
        let engine = new_engine(EngineSettings { cache_dir, compiler, ..EngineSettings::default() })?;
        let start = Instant::now();
        let bound: Bound = bind(&load(&engine, stock("std/headers"))?, &config)?;
        let took = start.elapsed().as_secs_f64() * 1e3;
        drop(bound);
        Ok(took)
    };
    samples.push(("compile_here_ms", first(dir.path(), None)?));
    let apart = Compiler::this_program(vec!["compile-module".to_owned()]);
    let apart = apart.map_err(Error::io("find the path of this program"))?;
    samples.push(("compile_apart_ms", first(other.path(), Some(apart))?));
    samples.push(("cached_bind_ms", first(dir.path(), None)?));
    Ok(())
}

fn new_engine(settings: EngineSettings) -> Result<Engine, Error> {
    Engine::new(&settings).map_err(Error::engine("start"))
}
