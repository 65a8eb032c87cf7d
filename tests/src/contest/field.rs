//! Everybody who takes part, brought up: first those who need nothing, then the peers, whose rules come from the same objects,
//! fewer Services first.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use sluice_bench::part::Version;

use super::contender::{Contender, Rules};
use super::feed::Feed;
use super::scene;
use super::stage::Stage;

/// All stages, and what bringing them up has told.
pub struct Field {
    stages: Vec<Stage>,
    absent: Vec<(Contender, String)>,
    notes: Vec<String>,
    versions: Vec<Version>,
}

impl Field {
    /// Brings everybody up, and gives up when `go_on` does.
    ///
    /// # Errors
    /// Names who does not come up; the others are taken down again.
    pub fn up(contenders: &[Contender], go_on: &dyn Fn() -> Result<()>) -> Result<Self> {
        let mut field =
            Self { stages: Vec::new(), absent: Vec::new(), notes: Vec::new(), versions: Vec::new() };
        for contender in contenders {
            go_on()?;
            if let Some(reason) = scene::absent(*contender) {
                field.miss(*contender, reason.to_owned());
                continue;
            }
            let began = Instant::now();
            field.stages.push(Stage::up(*contender).with_context(|| format!("bringing up {contender}"))?);
            println!("{:6.2} s  {contender}", began.elapsed().as_secs_f64());
        }
        if field.stages.iter().any(|stage| stage.contender.rules().is_some()) {
            field.write_rules(go_on)?;
        }
        Ok(field)
    }

    fn write_rules(&mut self, go_on: &dyn Fn() -> Result<()>) -> Result<()> {
        let mut feed = Feed::start(&self.stages)?;
        let mut ruled_out = Vec::new();
        let mut peers: Vec<usize> = (0..self.stages.len()).collect();
        peers.retain(|index| self.stages[*index].contender.rules().is_some());
        peers.sort_by_key(|index| self.stages[*index].contender.services);
        for index in peers {
            go_on()?;
            let services = self.stages[index].contender.services;
            feed.grow(services)?;
            let stage = &mut self.stages[index];
            let contender = stage.contender;
            let Some(rules) = contender.rules() else { continue };
            match feed.write_rules(stage, rules) {
                Ok(took) => {
                    println!("{:6.2} s  rules of {contender}", took.as_secs_f64());
                    self.notes.push(written(contender, took));
                }
                // The others are worth measuring all the same.
                Err(error) => {
                    self.miss(contender, format!("{error:#}"));
                    ruled_out.push(contender);
                }
            }
        }
        self.stages.retain(|stage| !ruled_out.contains(&stage.contender));
        self.versions.push(Version::new("kube-proxy", feed.version()));
        self.versions.push(Version::of("nft", &["--version"]));
        for rules in ["xtables-legacy-multi", "xtables-nft-multi"] {
            self.versions.push(Version::of(rules, &["iptables", "--version"]));
        }
        Ok(())
    }

    fn miss(&mut self, contender: Contender, reason: String) {
        let note = format!("{contender} does not take part: {reason}.");
        println!("{note}");
        self.notes.push(note);
        self.absent.push((contender, reason));
    }

    /// Those who are not there, and why.
    #[must_use]
    pub fn absent(&self) -> &[(Contender, String)] {
        &self.absent
    }

    /// Those who are there.
    pub fn stages(&mut self) -> &mut [Stage] {
        &mut self.stages
    }

    /// What has to be said, in whole sentences.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    /// Of the peers.
    #[must_use]
    pub fn versions(&self) -> Vec<Version> {
        self.versions.clone()
    }

    /// Takes everybody down.
    ///
    /// # Errors
    /// Names the first who does not go.
    pub fn down(self) -> Result<()> {
        self.stages.into_iter().try_for_each(Stage::down)
    }
}

fn written(contender: Contender, took: Duration) -> String {
    let rules = contender.rules().map_or("", |rules| match rules {
        Rules::Legacy | Rules::IptablesNft => "iptables",
        Rules::Nftables | Rules::NftablesFlowtable => "nft",
        Rules::Ipvs => "IPVS",
    });
    let seconds = took.as_secs_f64();
    format!("{contender}: from the start of kube-proxy until its {rules} rules served took {seconds:.1} s.")
}
