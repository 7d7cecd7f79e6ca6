//! Lines to the broker's log; in tests on the host they are kept for `test::logs`.

use std::fmt::Arguments;

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Every step.
    Trace,
    /// For its author.
    Debug,
    /// For the operator.
    Info,
    /// Something to look at.
    Warn,
    /// Something failed.
    Error,
}

/// Writes one line.
pub fn write(level: Level, message: Arguments<'_>) {
    #[cfg(target_arch = "wasm32")]
    crate::guest::write_log(level, &message.to_string());
    #[cfg(not(target_arch = "wasm32"))]
    crate::test::keep_log(level, message.to_string());
}

#[doc(hidden)]
#[macro_export]
macro_rules! __trace {
    ($($argument:tt)+) => {
        $crate::__private::write_log($crate::Level::Trace, ::core::format_args!($($argument)+))
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __debug {
    ($($argument:tt)+) => {
        $crate::__private::write_log($crate::Level::Debug, ::core::format_args!($($argument)+))
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __info {
    ($($argument:tt)+) => {
        $crate::__private::write_log($crate::Level::Info, ::core::format_args!($($argument)+))
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __warn {
    ($($argument:tt)+) => {
        $crate::__private::write_log($crate::Level::Warn, ::core::format_args!($($argument)+))
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __error {
    ($($argument:tt)+) => {
        $crate::__private::write_log($crate::Level::Error, ::core::format_args!($($argument)+))
    };
}
