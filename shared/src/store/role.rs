//! Roles, as types that stand for what one may do.

use std::sync::Arc;

use super::{CallerStore, CoordinatorStore, ReaderStore, Store, WorkerStore};

mod sealed {
    pub trait Sealed {}
}

/// What its holder may do with a store: `dyn CallerStore`, `dyn WorkerStore`, `dyn CoordinatorStore`, or all of it, `dyn Store`.
pub trait Role: ReaderStore + sealed::Sealed {
    /// The store, as one of this role sees it.
    fn of(store: Arc<dyn Store>) -> Arc<Self>;
    /// The same store, for somebody who reads alone.
    fn reader(store: Arc<Self>) -> Arc<dyn ReaderStore>;
}

macro_rules! roles {
    ($($role:ident)*) => {$(
        impl sealed::Sealed for dyn $role {}

        impl Role for dyn $role {
            fn of(store: Arc<dyn Store>) -> Arc<Self> {
                store
            }

            fn reader(store: Arc<Self>) -> Arc<dyn ReaderStore> {
                store
            }
        }
    )*};
}

roles!(Store CallerStore WorkerStore CoordinatorStore);
