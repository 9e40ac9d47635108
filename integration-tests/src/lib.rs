//! What the integration tests share: a real Redis, real worker and coordinator processes, and the workflows they run.

pub mod both;
pub mod cluster;
pub mod documents;
pub mod double;
pub mod durable;
pub mod fleet;
pub mod proxy;
pub mod redis;
pub mod refusing;
pub mod scene;
pub mod sentinel;
pub mod signals;
pub mod unruly;
pub mod workflows;
