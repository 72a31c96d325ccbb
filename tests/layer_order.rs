//! The order of layers in a view can't be seen: whatever it is, a step adds the same layer.

mod run_rig;

use std::path::{Path, PathBuf};

use bcache::base::ids::StepId;
use bcache::base::tree::Tree;
use bcache::execute::runner::Ending;
use bcache::execute::view::layer::{Lower, collect};
use bcache::store::Sources;
use proptest::prelude::*;
use run_rig::Rig;

/// Layers that meet in directories, and of which two have a file in common.
const LAYERS: [&[(&str, &str)]; 5] = [
    &[("bin/tool", "#!/bin/sh\necho from tool\n"), ("lib/liba.so", "A")],
    &[("lib/libb.so", "B"), ("share/both", "the same")],
    &[("lib/pkgconfig/c.pc", "Name: c\n"), ("share/both", "the same")],
    &[("include/d/d.h", "#define D\n"), ("include/d.h", "#include <d/d.h>\n")],
    &[("share/doc/e/README", "e"), ("lib/libe.so", "E")],
];

/// Looks at everything there is, uses it, and writes into new and old directories.
const STEP: &str = "cd prefix; umask 022; mkdir -p lib/pkgconfig share/doc/f; seen=$(find . | sort); echo \"$seen\" >lib/seen; cat lib/*.so >lib/libf.so; \
                    sh bin/tool >share/doc/f/said; touch lib/liba.so; cp include/d.h include/f.h; ln -s libf.so lib/libf.so.1";

fn tree_of(dir: &Path) -> Tree {
    let sources = Sources {
        workspace: dir,
        outputs: &[],
        upper: Some(dir),
        except: &[],
        log: None,
        places: &[],
        secrets: &[],
        placeholders: &[],
    };
    sources.snapshot().unwrap().made.layer.unwrap()
}

fn layer_with(order: &[usize]) -> Tree {
    let mut rig = Rig::new();
    let names: Vec<String> = order.iter().map(|n| format!("layer {n}")).collect();
    for (n, name) in order.iter().zip(&names) {
        for (path, text) in LAYERS[*n] {
            rig.file(&format!("{name}/{path}"), text);
        }
    }
    rig.over("prefix", &names.iter().map(String::as_str).collect::<Vec<_>>(), true);
    let finished = rig.shell(STEP);
    assert_eq!(finished.ending, Ending::Success, "{}", rig.log());
    let owned: Vec<(StepId, Tree)> = order
        .iter()
        .zip(&names)
        .map(|(n, name)| (StepId::new(&n.to_string(), "host"), tree_of(&rig.at(name))))
        .collect();
    let lower: Vec<Lower> = owned.iter().map(|(owner, tree)| Lower { owner, tree }).collect();
    let none: [PathBuf; 0] = [];
    let upper = rig.at("top/upper");
    collect(&StepId::new("f", "host"), &upper, &lower, &none, &none).unwrap();
    tree_of(&upper)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn layers_in_any_order_give_the_same_layer(order in Just((0..LAYERS.len()).collect::<Vec<_>>()).prop_shuffle()) {
        let in_order = layer_with(&[0, 1, 2, 3, 4]);
        prop_assert_eq!(in_order.file_count(), 5);
        prop_assert_eq!(layer_with(&order), in_order);
    }
}
