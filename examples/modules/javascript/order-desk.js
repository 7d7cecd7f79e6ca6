// The order desk in JavaScript: see the README one folder up for what it does.
import { write } from 'millstream:module/log@1.0.0';

const NOTICES = 'orders.notices';
const SAME = { topic: undefined, key: { tag: 'inherit' }, headers: undefined, payload: { tag: 'inherit' } };

let config;

// A thrown text is the error of a `result`.
export function configure(setup) {
  config = readConfig(setup.config);
  write('info', `orders of ${config.region}`);
  return {
    fields: { payload: true },
    verdicts: { keep: true, drop: true, emit: true, reject: true },
    topics: [config.reviewTopic, NOTICES],
  };
}

export function processRecords(now, records) {
  return records.map(judge);
}

function readConfig(text) {
  const fields = JSON.parse(text);
  if (fields === null || typeof fields !== 'object' || Array.isArray(fields)) throw 'config: not an object';
  const known = ['region', 'review_over', 'review_topic'];
  const unknown = Object.keys(fields).find((name) => !known.includes(name));
  if (unknown !== undefined) throw `config field \`${unknown}\` is unknown`;
  const { region, review_over: reviewOver = 1000, review_topic: reviewTopic = 'orders.review' } = fields;
  if (region === undefined) throw 'config field `region` is missing';
  for (const [name, value] of [['region', region], ['review_topic', reviewTopic]]) {
    if (typeof value !== 'string' || value === '') throw `config field \`${name}\` is not a text with something in it`;
  }
  if (typeof reviewOver !== 'number') throw 'config field `review_over` is not a number';
  return { region, regionBytes: encode(region), reviewOver, reviewTopic };
}

function judge(record) {
  const header = (name) => record.headers.find((header) => header.name === name)?.value;
  if (header('crash')) {
    // What is written at this level goes with the fault: a trap itself says nothing.
    write('panic', 'a record with the header `crash`');
    throw new Error('crash');
  }
  // An option that is none is `null` or `undefined`, as the tool has it.
  if (record.payload == null) return { tag: 'keep' };
  const region = header('region');
  if (region && !equal(region, config.regionBytes)) return { tag: 'drop' };
  const order = parse(record.payload);
  if (order === null || typeof order !== 'object' || Array.isArray(order)) {
    return { tag: 'reject', val: 'the payload is not a JSON object' };
  }
  if (typeof order.total !== 'number') return { tag: 'reject', val: '`total` is missing or not a number' };
  if (order.total > config.reviewOver) return { tag: 'route', val: [config.reviewTopic] };
  if (order.cancelled === true) return { tag: 'emit', val: [{ ...SAME, payload: { tag: 'remove' } }] };
  const priority = header('priority');
  if (priority && equal(priority, EXPRESS)) {
    const headers = [...record.headers, { name: 'handled', value: EXPRESS }];
    const notice = {
      topic: NOTICES,
      key: { tag: 'remove' },
      headers: [],
      payload: { tag: 'set', val: encode(`express order ${record.offset} of ${record.timestamp}`) },
    };
    return { tag: 'emit', val: [{ ...SAME, headers }, notice] };
  }
  return { tag: 'keep' };
}

function parse(payload) {
  try {
    return JSON.parse(decode(payload));
  } catch {
    return null;
  }
}

function equal(one, other) {
  return one.length === other.length && one.every((byte, index) => byte === other[index]);
}

// UTF-8 without TextDecoder and TextEncoder, which not every engine has; throws on what is no UTF-8.
function decode(bytes) {
  let text = '';
  for (let at = 0; at < bytes.length; at += 4096) {
    text += String.fromCharCode.apply(null, bytes.subarray(at, at + 4096));
  }
  return decodeURIComponent(escape(text));
}

function encode(text) {
  return Uint8Array.from(unescape(encodeURIComponent(text)), (char) => char.charCodeAt(0));
}

const EXPRESS = encode('express');
