//! Public signatures name no types of libraries that must be free to change: a new version of tokio-util or redis would break authors and
//! callers. Types of std, serde, `serde_json` and schemars are fine, as events are made with them.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use syn::visit::{self, Visit};
use syn::{Attribute, Field, File, ImplItemFn, Item, ItemFn, ItemUse, TraitItemFn, TypePath, UseTree, Visibility};

const FOREIGN: [&str; 11] = [
    "tokio",
    "tokio_util",
    "redis",
    "deadpool_redis",
    "futures_util",
    "hyper",
    "hyper_util",
    "bytes",
    "rmpv",
    "rand",
    "tracing_subscriber",
];

/// What `stepfleet` hands on of the shared crate.
const HANDED_ON: [&str; 15] = [
    "client",
    "client.rs",
    "attributes.rs",
    "codec.rs",
    "entity.rs",
    "error.rs",
    "export.rs",
    "follow.rs",
    "history.rs",
    "listing.rs",
    "question.rs",
    "run.rs",
    "snapshot.rs",
    "published.rs",
    "published",
];

fn files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries = std::fs::read_dir(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    entries.flat_map(|entry| files(&entry.expect("an entry").path())).collect()
}

/// The signatures of one file.
#[derive(Default)]
struct Signatures {
    /// Which crate a name comes from.
    imports: HashMap<String, String>,
    found: Vec<String>,
    /// The public item that is looked at.
    item: Option<String>,
}

impl Signatures {
    fn import(&mut self, tree: &UseTree, root: Option<&str>) {
        match tree {
            UseTree::Path(path) => {
                let name = path.ident.to_string();
                self.import(&path.tree, Some(root.unwrap_or(&name)));
            }
            UseTree::Name(name) => self.imported(&name.ident.to_string(), root),
            UseTree::Rename(name) => self.imported(&name.rename.to_string(), root),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.import(tree, root)),
            UseTree::Glob(_) => {}
        }
    }

    fn imported(&mut self, name: &str, root: Option<&str>) {
        self.imports.insert(name.to_owned(), root.unwrap_or(name).to_owned());
    }

    fn within(
        &mut self,
        visibility: &Visibility,
        attributes: &[Attribute],
        name: String,
        look: impl FnOnce(&mut Self),
    ) {
        if matches!(visibility, Visibility::Public(_)) && !is_hidden(attributes) {
            self.item = Some(name);
            look(self);
            self.item = None;
        }
    }
}

fn is_hidden(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let text = quote::quote!(#attribute).to_string();
        text.contains("doc (hidden)") || text.contains("cfg (test)")
    })
}

impl<'a> Visit<'a> for Signatures {
    fn visit_item(&mut self, item: &'a Item) {
        let attributes = match item {
            Item::Mod(module) => &module.attrs,
            Item::Impl(block) => &block.attrs,
            Item::Trait(of) => &of.attrs,
            _ => return visit::visit_item(self, item),
        };
        if !is_hidden(attributes) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'a ItemUse) {
        self.import(&item.tree, None);
    }

    fn visit_item_fn(&mut self, function: &'a ItemFn) {
        let name = function.sig.ident.to_string();
        self.within(&function.vis, &function.attrs, name, |this| this.visit_signature(&function.sig));
    }

    fn visit_impl_item_fn(&mut self, function: &'a ImplItemFn) {
        let name = function.sig.ident.to_string();
        self.within(&function.vis, &function.attrs, name, |this| this.visit_signature(&function.sig));
    }

    fn visit_trait_item_fn(&mut self, function: &'a TraitItemFn) {
        if !is_hidden(&function.attrs) {
            self.item = Some(function.sig.ident.to_string());
            self.visit_signature(&function.sig);
            self.item = None;
        }
    }

    fn visit_field(&mut self, field: &'a Field) {
        let name = field.ident.as_ref().map(ToString::to_string).unwrap_or_default();
        self.within(&field.vis, &field.attrs, name, |this| this.visit_type(&field.ty));
    }

    fn visit_type_path(&mut self, path: &'a TypePath) {
        if let (Some(item), Some(first)) = (&self.item, path.path.segments.first()) {
            let name = first.ident.to_string();
            let from = self.imports.get(&name).unwrap_or(&name);
            if FOREIGN.contains(&from.as_str()) {
                self.found.push(format!("{item} names {name} of {from}"));
            }
        }
        visit::visit_type_path(self, path);
    }
}

fn foreign(file: &File) -> Vec<String> {
    let mut signatures = Signatures::default();
    file.items.iter().filter_map(|item| if let Item::Use(item) = item { Some(item) } else { None }).for_each(|item| {
        signatures.visit_item_use(item);
    });
    signatures.visit_file(file);
    signatures.found
}

#[test]
fn public_signatures_name_no_types_of_other_libraries() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shared = HANDED_ON.iter().map(|part| here.join("../shared/src").join(part));
    let all: Vec<_> = std::iter::once(here.join("src")).chain(shared).flat_map(|path| files(&path)).collect();
    assert!(all.len() > 80, "the sources are somewhere else");
    let mut found = Vec::new();
    for path in all {
        let file = syn::parse_file(&std::fs::read_to_string(&path).unwrap()).unwrap();
        found.extend(foreign(&file).into_iter().map(|what| format!("{}: {what}", path.display())));
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_foreign_type_is_found_wherever_it_stands() {
    let file = syn::parse_quote! {
        use tokio_util::sync::{CancellationToken as Token, DropGuard};
        pub struct A { pub token: Token, own: DropGuard }
        impl A {
            pub fn b(&self) -> Option<&Token> { None }
            pub fn c(&self, connection: redis::Client) -> Vec<u8> { Vec::new() }
            pub(crate) fn d(&self) -> DropGuard { panic!() }
            #[doc(hidden)]
            pub fn e(&self) -> DropGuard { panic!() }
        }
        #[cfg(test)]
        mod tests { pub fn f(guard: DropGuard) {} }
    };
    let found = foreign(&file);
    assert_eq!(found, ["token names Token of tokio_util", "b names Token of tokio_util", "c names redis of redis"]);
}
