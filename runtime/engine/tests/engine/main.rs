//! The engine's tests, on the real engine, with the guests of `tests/guests`.

/// Components of the guests; batches; bound modules.
mod support;

/// What a module may answer and what becomes of the records.
mod pipeline;

/// Any mixture of records and faults, against a model.
mod model;

/// Guests that misbehave while they judge.
mod faults;

/// What is refused when a module is uploaded, and when it is bound.
mod refusals;

/// The typed form of the contract.
mod typed;

/// Compiled code on disk.
mod cache;

/// Modules that nobody wrote, what instances leave behind, lines without end.
mod hostile;

/// What modules are granted.
mod granted;

/// What modules remember.
mod state;

/// Compiling in another process, which may fail in any way.
mod compiler;

/// Threads for module code.
mod workers;
