//! The state against a stack of maps.

use proptest::prelude::*;

use super::*;

/// What is committed.
#[derive(Default)]
struct Stored(Mutex<BTreeMap<Bytes, Bytes>>);

impl StateStore for Stored {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, String> {
        Ok(self.0.lock().unwrap().get(key).cloned())
    }

    fn scan<'a>(
        &'a self,
        prefix: &[u8],
        after: Option<&[u8]>,
    ) -> Box<dyn Iterator<Item = Result<StateEntry, String>> + 'a> {
        let entries: Vec<_> = self
            .0
            .lock()
            .unwrap()
            .iter()
            .filter(|(key, _)| key.starts_with(prefix) && after.is_none_or(|after| key.as_ref() > after))
            .map(|(key, value)| Ok((key.clone(), value.clone())))
            .collect();
        Box::new(entries.into_iter())
    }
}

#[derive(Debug, Clone)]
enum Step {
    Put(u8, u8),
    Delete(u8),
    Scan { prefix: u8, after: Option<u8>, limit: u32 },
    EndCall(bool),
    EndChunk(bool),
    EndRun(bool),
    Commit,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..12_u8, 0..40_u8).prop_map(|(key, len)| Step::Put(key, len)),
        2 => (0..12_u8).prop_map(Step::Delete),
        2 => (0..4_u8, prop::option::of(0..12_u8), 0..6_u32)
            .prop_map(|(prefix, after, limit)| Step::Scan { prefix, after, limit }),
        2 => any::<bool>().prop_map(Step::EndCall),
        1 => any::<bool>().prop_map(Step::EndChunk),
        1 => any::<bool>().prop_map(Step::EndRun),
        1 => Just(Step::Commit),
    ]
}

/// Keys of one or two bytes, so that some are prefixes of others.
fn key(number: u8) -> Vec<u8> {
    if number < 4 { vec![number] } else { vec![number % 4, number] }
}

type Map = BTreeMap<Bytes, Bytes>;

fn size(map: &Map) -> StateSize {
    let bytes = map.iter().map(|(key, value)| (key.len() + value.len() + 32) as u64).sum();
    StateSize { entries: map.len() as u64, bytes }
}

proptest! {
    #[test]
    fn it_is_a_map_with_layers(steps in prop::collection::vec(step(), 1..120)) {
        const MAX: u64 = 400;
        let stored = Arc::new(Stored::default());
        let state = State::new(Arc::clone(&stored) as Arc<dyn StateStore>, StateSize::default(), Arc::new(MAX.into()));
        // Committed, kept, run, chunk, call: each with all that is below.
        let mut maps = vec![Map::new(); 5];
        for step in steps {
            match step {
                Step::Put(number, len) => {
                    let mut wanted = maps[4].clone();
                    wanted.insert(key(number).into(), vec![number; len.into()].into());
                    let put = state.put(key(number), vec![number; len.into()]);
                    let grows = size(&wanted).bytes > size(&maps[4]).bytes;
                    prop_assert_eq!(put.is_err(), grows && size(&wanted).bytes > MAX);
                    if put.is_ok() {
                        maps[4] = wanted;
                    }
                }
                Step::Delete(number) => {
                    state.delete(key(number)).unwrap();
                    maps[4].remove(key(number).as_slice());
                }
                Step::Scan { prefix, after, limit } => {
                    let after = after.map(key);
                    let found = state.scan(&[prefix], after.as_deref(), limit).unwrap();
                    let wanted = maps[4].iter().filter(|(key, _)| {
                        key.starts_with(&[prefix]) && after.as_ref().is_none_or(|after| key.as_ref() > after.as_slice())
                    });
                    let wanted: Vec<_> = wanted.take(limit as usize).map(|(k, v)| (k.clone(), v.clone())).collect();
                    prop_assert_eq!(found, wanted);
                }
                Step::EndCall(good) => end(&state, Layer::Call, good, &mut maps),
                Step::EndChunk(good) => end(&state, Layer::Chunk, good, &mut maps),
                Step::EndRun(good) => {
                    match good {
                        true => {
                            // A run ends after its chunks.
                            state.discard(Layer::Chunk);
                            state.keep();
                            maps[1] = maps[2].clone();
                        }
                        false => state.give_up(),
                    }
                    for above in 2..5 {
                        maps[above] = maps[1].clone();
                    }
                }
                Step::Commit => {
                    state.give_up();
                    let (changes, told) = state.changes();
                    prop_assert_eq!(told, size(&maps[1]));
                    let mut stored = stored.0.lock().unwrap();
                    for (key, value) in changes {
                        match value {
                            Some(value) => drop(stored.insert(key, value)),
                            None => drop(stored.remove(&key)),
                        }
                    }
                    prop_assert_eq!(&*stored, &maps[1]);
                    state.committed();
                    prop_assert_eq!((state.size(), state.kept_bytes()), (size(&maps[1]), 0));
                    let kept = maps[1].clone();
                    maps.fill(kept);
                }
            }
            for number in 0..12 {
                prop_assert_eq!(state.get(&key(number)).unwrap(), maps[4].get(key(number).as_slice()).cloned());
            }
        }
    }
}

/// Ends a call or a chunk, well or not.
fn end(state: &State, layer: Layer, good: bool, maps: &mut [Map]) {
    let place = layer as usize + 1;
    match good {
        true => {
            state.discard_above(layer);
            state.merge(layer);
            maps[place - 1] = maps[place].clone();
        }
        false => state.discard(layer),
    }
    for above in place..5 {
        maps[above] = maps[place - 1].clone();
    }
}

#[test]
fn what_is_too_large_is_refused_by_number() {
    let state = State::in_memory(1 << 30);
    let refused = |put: Result<(), String>| put.expect_err("too large");
    let text = refused(state.put(vec![1; STATE_KEY_BYTES_MAX + 1], Vec::new()));
    assert_eq!(text, "a key of the state has 1025 bytes; its limit is 1024");
    let text = refused(state.put(vec![1], vec![0; STATE_VALUE_BYTES_MAX + 1]));
    assert_eq!(text, "a value of 262145 bytes is put into the state; its limit is 262144");
    assert!(refused(state.put(Vec::new(), Vec::new())).contains("no bytes"));
    let texts = (0..=16).map(|key| state.put(vec![key], vec![0; STATE_VALUE_BYTES_MAX]));
    let text = texts.filter_map(Result::err).next().expect("too much in one call");
    assert!(text.contains("in one call; its limit is 4194304"), "{text}");
}

#[test]
fn a_scan_ends_in_time() {
    let state = State::in_memory(1 << 30);
    for key in 0..8_u8 {
        state.put(vec![1, key], vec![0; STATE_SCAN_BYTES / 4]).unwrap();
    }
    let first = state.scan(&[1], None, 100).unwrap();
    assert_eq!(first.len(), 4);
    let after = first.last().map(|(key, _)| key.clone()).unwrap();
    assert_eq!(state.scan(&[1], Some(&after), 100).unwrap().len(), 4);
}
