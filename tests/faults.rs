//! Every place at which a file is changed, driven through a full disk, a broken disk and `kill -9`; kills at random
//! moments; and disks that are really full.
//!
//! A share of it runs with all tests. The whole is `cargo bcache run faults`: see `CONTRIBUTING.md`.

#![cfg(target_os = "linux")]

mod fault_rig;
mod random;
mod sandbox;

use std::collections::{BTreeMap, BTreeSet};

use fault_rig::kinds::KINDS;
use fault_rig::scenarios::{self, SCENARIOS, Scenario};
use fault_rig::{Clean, Drive, Ended, FAULTS, Fault, Site, Who, full, kills};
use random::Random;

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |n| n.parse().unwrap_or_else(|_| panic!("{name} is no number: {n}")))
}

/// Drives one fault, and says how it ended. Where threads took turns so that nothing came there, it is tried again.
fn try_drive(scenario: &Scenario, clean: &Clean, drive: &Drive) -> Result<Ended, String> {
    for _ in 0..3 {
        let ended = scenario.drive(clean, drive).map_err(|text| format!("{}: {drive}: {text}", scenario.name))?;
        if ended != Ended::Missed {
            println!("{}: {drive}: {ended}", scenario.name);
            return Ok(ended);
        }
    }
    println!("{}: {drive}: {}", scenario.name, Ended::Missed);
    Ok(Ended::Missed)
}

#[track_caller]
fn drive(scenario: &Scenario, clean: &Clean, drive: &Drive) -> Ended {
    try_drive(scenario, clean, drive).unwrap_or_else(|lie| panic!("{lie}"))
}

/// What `BCACHE_TEST_SCENARIO` names (with commas), or all.
fn chosen() -> impl Fn(&Scenario) -> bool {
    let only = std::env::var("BCACHE_TEST_SCENARIO").ok();
    move |scenario| only.as_ref().is_none_or(|names| names.split(',').any(|name| name == scenario.name))
}

/// Each site in each scenario, at its first passes and its last; or, with no passes, each site once in all scenarios.
#[test]
#[ignore = "takes an hour: cargo bcache run faults"]
fn every_site_survives_a_full_disk_a_broken_disk_and_kill_9() {
    let (is_chosen, passes) = (chosen(), number("BCACHE_TEST_PASSES", 2) as usize);
    let (mut known, mut driven) = (BTreeSet::new(), BTreeMap::<(String, Fault), usize>::new());
    let mut lies = Vec::new();
    for scenario in SCENARIOS {
        let clean = scenario.clean();
        println!("{}: {} sites, {} passes", scenario.name, clean.sites.len(), clean.sites.values().sum::<usize>());
        for (site, passed) in &clean.sites {
            let is_new = known.insert(site.clone());
            if !is_chosen(scenario) || passes == 0 && !is_new {
                continue;
            }
            for pass in (0..*passed).filter(|pass| *pass < passes || pass + 1 == *passed) {
                for fault in FAULTS {
                    match try_drive(scenario, &clean, &Drive { site: site.clone(), pass, fault }) {
                        Ok(Ended::Missed) => {}
                        Ok(_) => *driven.entry((format!("{} {}", site.call, site.kind), fault)).or_default() += 1,
                        Err(lie) => {
                            println!("LIE: {lie}");
                            lies.push(lie);
                        }
                    }
                }
            }
        }
    }
    println!("{} sites and faults, {} drives", driven.len(), driven.values().sum::<usize>());
    let is_missed = |kind: &&&str| FAULTS.iter().any(|fault| !driven.contains_key(&((**kind).to_owned(), *fault)));
    let missed: Vec<_> = KINDS.iter().filter(is_missed).filter(|_| SCENARIOS.iter().all(&is_chosen)).collect();
    assert!(missed.is_empty(), "never driven: {missed:#?}");
    assert!(lies.is_empty(), "{}", lies.join("\n\n"));
}

#[test]
fn every_kind_of_file_that_is_put_in_place_is_known_and_made_by_a_scenario() {
    let mut made = BTreeSet::new();
    for scenario in SCENARIOS {
        made.extend(scenario.clean().sites.into_keys().map(|site| format!("{} {}", site.call, site.kind)));
    }
    let known: BTreeSet<String> = KINDS.iter().map(|kind| (*kind).to_owned()).collect();
    let is_ours = |kind: &&String| ["rename store/", "rename work/.bcache/"].iter().any(|ours| kind.starts_with(ours));
    let unknown: Vec<&String> = made.iter().filter(is_ours).filter(|kind| !known.contains(*kind)).collect();
    assert!(unknown.is_empty(), "made, and no line of `kinds.rs`: {unknown:#?}");
    let never: Vec<&String> = known.difference(&made).collect();
    assert!(never.is_empty(), "known, and made by no scenario: {never:#?}");
}

/// Where what is known is put in place, with the fault that says most of it.
const BRIEF: &[(&str, &str, &str, Fault)] = &[
    ("cold", "rename", "store/v1/frames/#/#", Fault::Full),
    ("cold", "rename", "store/v1/results/#/#", Fault::Killed),
    ("cold", "rename", "store/v1/paths/#/#", Fault::Io),
    ("cold", "rename", "store/v1/usage", Fault::Full),
    ("cold", "rename", "work/.bcache/layers/#", Fault::Killed),
    ("cold", "write", "work/.bcache/records/@", Fault::Full),
    ("cold", "truncate", "work/.bcache/records/@", Fault::Killed),
    ("cold", "write", "work/.bcache/prefixes/root@host/@", Fault::Io),
    ("cold", "open", "work/.bcache/locks/steps", Fault::Full),
    ("cold", "mkdir", "work/.bcache/work/view-#", Fault::Full),
    ("restored", "write", "work/out/big", Fault::Full),
    ("restored", "rename", "work/.bcache/files", Fault::Killed),
];

#[test]
fn what_is_put_in_place_survives_faults() {
    let mut known = BTreeMap::new();
    for (name, call, kind, fault) in BRIEF {
        let scenario = SCENARIOS.iter().find(|scenario| scenario.name == *name).unwrap();
        let clean = known.entry(*name).or_insert_with(|| scenario.clean());
        let mut sites = clean.sites.iter().filter(|(site, _)| site.call == *call && site.kind == *kind);
        let (site, passes) = sites.next().unwrap_or_else(|| panic!("nobody does {call} {kind}"));
        let ended = drive(scenario, clean, &Drive { site: site.clone(), pass: passes / 2, fault: *fault });
        assert_ne!(ended, Ended::Missed, "{call} {kind}");
    }
}

#[test]
fn a_trial_of_namespaces_that_fails_or_is_killed_does_not_make_steps_run_without() {
    let scenario = &SCENARIOS[0];
    let clean = scenario.clean();
    let is_of_trial = |site: &Site| site.call == "mkdir" && site.kind.starts_with("work/.bcache/work/view-#");
    for site in clean.sites.keys().filter(|site| is_of_trial(site)) {
        for fault in [Fault::Full, Fault::Killed] {
            // Bcache itself, killed, says nothing.
            if fault == Fault::Full || site.who == Who::Inside {
                let ended = drive(scenario, &clean, &Drive { site: site.clone(), pass: 0, fault });
                assert!(matches!(&ended, Ended::Failed(5, text) if text.contains("cannot try whether")), "{ended}");
            }
        }
    }
}

/// How a disk below `TMPDIR` that is full ends each pass of these sites.
fn ends_without_room(scenario: &str, kind: &str) -> Vec<Ended> {
    let scenario = SCENARIOS.iter().find(|known| known.name == scenario).unwrap();
    let clean = scenario.clean();
    let sites = clean.sites.iter().filter(|(site, _)| ["open", "write"].contains(&site.call) && site.kind == kind);
    let drives = sites
        .flat_map(|(site, passes)| (0..*passes).map(|pass| Drive { site: site.clone(), pass, fault: Fault::Full }));
    drives.map(|one| drive(scenario, &clean, &one)).collect()
}

#[test]
fn a_jobserver_that_can_not_be_made_is_told_of() {
    let told = |ended: &Ended| matches!(ended, Ended::Failed(5, text) if text.contains("the disk is full"));
    assert!(ends_without_room("cold", "tmp/bcache-#/jobserver-#").iter().filter(|ended| told(ended)).count() > 1);
}

#[test]
fn a_compiler_that_could_not_be_asked_is_asked_again() {
    let ended = ends_without_room("cargo", "tmp");
    assert!(!ended.is_empty() && ended.iter().all(|ended| *ended == Ended::Unharmed), "{ended:?}");
}

#[test]
fn a_running_total_that_can_not_be_written_fails_no_build() {
    let scenario = &SCENARIOS[0];
    let clean = scenario.clean();
    let (site, _) = clean.sites.iter().find(|(site, _)| site.kind == "store/v1/usage").unwrap();
    assert_eq!(drive(scenario, &clean, &Drive { site: site.clone(), pass: 0, fault: Fault::Full }), Ended::Unharmed);
}

#[test]
fn a_disk_that_fails_as_a_sysroot_is_put_back_is_not_said_to_be_a_view_that_was_taken_away() {
    let scenario = SCENARIOS.iter().find(|scenario| scenario.name == "exclusive").unwrap();
    let clean = scenario.clean();
    let of_view = |kind: &str| kind == "work/.bcache/exclusive/root@host/view";
    let (site, _) = clean.sites.iter().find(|(site, _)| site.call == "rename" && of_view(&site.kind)).unwrap();
    let ended = drive(scenario, &clean, &Drive { site: site.clone(), pass: 1, fault: Fault::Full });
    assert!(matches!(&ended, Ended::Failed(5, text) if text.contains("the disk is full")), "{ended}");
}

#[test]
fn a_few_kills_at_random_tear_nothing() {
    kills::kill(Random::new(number("BCACHE_TEST_SEED", 1)), 6);
}

#[test]
#[ignore = "takes ten minutes: cargo bcache run faults"]
fn a_thousand_kills_at_random_tear_nothing() {
    let seed = number("BCACHE_TEST_SEED", u64::from(std::process::id()));
    let count = number("BCACHE_TEST_KILLS", 1000);
    println!("{count} kills, seed {seed}");
    kills::kill(Random::new(seed), count as usize);
}

#[test]
fn a_disk_that_is_full_for_real_leaves_no_half_entry() {
    full::in_a_namespace("a_disk_that_is_full_for_real_leaves_no_half_entry", || {
        full::fill(&mut Random::new(number("BCACHE_TEST_SEED", 1)), 6);
    });
}

#[test]
#[ignore = "takes minutes: cargo bcache run faults"]
fn disks_that_are_full_for_real_at_many_points_leave_no_half_entry() {
    full::in_a_namespace("disks_that_are_full_for_real_at_many_points_leave_no_half_entry", || {
        let seed = number("BCACHE_TEST_SEED", u64::from(std::process::id()));
        let count = number("BCACHE_TEST_DISKS", 200);
        println!("{count} full disks, seed {seed}");
        full::fill(&mut Random::new(seed), count);
    });
}

#[test]
fn a_result_that_was_written_and_not_put_in_place_counts_as_none() {
    let sandbox = scenarios::built();
    let results = sandbox.store().join("v1/results");
    let shelf = std::fs::read_dir(results).unwrap().next().unwrap().unwrap().path();
    let result = std::fs::read_dir(&shelf).unwrap().next().unwrap().unwrap().path();
    std::fs::copy(result, shelf.join(".tmp-1-1")).unwrap();
    let listed = sandbox.run("cache list").answered().lines().count();
    assert_eq!(listed, 4, "half a commit is no result");
    sandbox.run("cache gc").success();
    assert!(!shelf.join(".tmp-1-1").exists());
}
