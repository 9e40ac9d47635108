//! Roles as types: what the holder of a store may do.

use std::sync::Arc;

use super::{CallerStore, CoordinatorStore, ReaderStore, Store, WorkerStore};

mod sealed {
    pub trait Sealed {}
}

/// What the holder of a store may do: `dyn CallerStore`, `dyn WorkerStore`, `dyn CoordinatorStore`, or everything, `dyn
/// Store`.
pub trait Role: ReaderStore + sealed::Sealed {
    /// The store, as this role sees it.
    fn of(store: Arc<dyn Store>) -> Arc<Self>;
    /// The same store, for reading only.
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
