//! The commands, one a file.

pub(crate) mod bench;
pub(crate) mod compile_module;
pub(crate) mod dlq;
pub(crate) mod module;
pub(crate) mod processor;
pub(crate) mod publish;
pub(crate) mod serve;
pub(crate) mod subscribe;
pub(crate) mod subscription;
pub(crate) mod topic;
pub(crate) mod work;
