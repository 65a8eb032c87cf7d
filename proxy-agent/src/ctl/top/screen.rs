//! How a look is laid out: three tables, on a terminal and as text. Knows no map.

use std::cmp::Ordering;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::widgets::{Block, Row, Table};
use serde::Serialize;

use crate::ctl::drops::DropRow;
use crate::ctl::flow::FlowRow;
use crate::ctl::output::{Page, columns, printable};

/// Connections that the text shows; the terminal shows as many as it has room for.
const FLOWS: usize = 10;

/// Everything on one screen.
#[derive(Serialize, Debug)]
pub(super) struct Screen {
    pub(super) services: Vec<ServiceLine>,
    pub(super) drops: Vec<DropRow>,
    pub(super) flows: Vec<FlowLine>,
}

/// A port of a Service.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServiceLine {
    pub(super) service: String,
    /// Connections of the packet road at the moment.
    pub(super) flows: usize,
    /// Connections of both roads since the port was first used.
    pub(super) opened: u64,
    pub(super) per_second: Option<f64>,
    pub(super) refused: u64,
    pub(super) dropped: u64,
}

/// A connection.
#[derive(Serialize, Debug)]
pub(super) struct FlowLine {
    service: String,
    protocol: String,
    client: String,
    frontend: String,
    backend: String,
}

impl ServiceLine {
    /// What is busiest comes first.
    pub(super) fn order(&self, other: &Self) -> Ordering {
        let speed = |line: &Self| line.per_second.unwrap_or(0.0);
        let by_speed = speed(other).total_cmp(&speed(self));
        by_speed.then(other.flows.cmp(&self.flows)).then_with(|| self.service.cmp(&other.service))
    }

    fn cells(&self) -> Vec<String> {
        let counts = [self.opened, self.refused, self.dropped].map(|count| count.to_string());
        let [opened, refused, dropped] = counts;
        vec![self.service.clone(), self.flows.to_string(), opened, speed(self.per_second), refused, dropped]
    }
}

impl FlowLine {
    pub(super) fn of(row: &FlowRow) -> Self {
        let [protocol, client, frontend, backend] = row.line();
        Self { service: row.service().to_owned(), protocol, client, frontend, backend }
    }

    fn cells(&self) -> Vec<String> {
        let Self { service, protocol, client, frontend, backend } = self;
        [service, protocol, client, frontend, backend].map(Clone::clone).into()
    }
}

fn speed(per_second: Option<f64>) -> String {
    per_second.map_or("-".into(), |rate| format!("{rate:.1}"))
}

fn drop_cells(row: &DropRow) -> Vec<String> {
    vec![row.reason.into(), row.outcome.into(), row.count.to_string(), speed(row.per_second)]
}

const SERVICES: [&str; 6] = ["SERVICE", "FLOWS", "OPENED", "PER SECOND", "REFUSED", "DROPPED"];
const DROPS: [&str; 4] = ["LOST FOR", "OUTCOME", "COUNT", "PER SECOND"];
const CONNECTIONS: [&str; 5] = ["CONNECTION OF", "PROTOCOL", "CLIENT", "FRONTEND", "BACKEND"];

impl Screen {
    /// Draws it on a terminal.
    pub(super) fn draw(&self, frame: &mut Frame<'_>) {
        let title = format!(
            " {} Service ports, {} connections on the packet road · q quits ",
            self.services.len(),
            self.flows.len()
        );
        let block = Block::bordered().title(title);
        let inside = block.inner(frame.area());
        frame.render_widget(block, frame.area());
        let drops = (self.drops.len() as u16).clamp(1, 6) + 2;
        let rooms = [Constraint::Fill(2), Constraint::Length(drops), Constraint::Fill(1)];
        let [services, lost, flows] = Layout::vertical(rooms).areas(inside);
        let fill = Constraint::Fill(1);
        let number = Constraint::Length(11);
        frame.render_widget(
            table(
                SERVICES,
                self.services.iter().map(ServiceLine::cells),
                [fill, number, number, number, number, number],
            ),
            services,
        );
        let lost_rows = self.drops.iter().map(drop_cells);
        frame.render_widget(table(DROPS, lost_rows, [fill, number, number, number]), lost);
        let ends = Constraint::Fill(1);
        let rows = self.flows.iter().map(FlowLine::cells);
        frame.render_widget(table(CONNECTIONS, rows, [fill, Constraint::Length(9), ends, ends, ends]), flows);
    }
}

/// A name may hold what a terminal would obey.
fn table<const N: usize>(
    headings: [&'static str; N],
    rows: impl Iterator<Item = Vec<String>>,
    widths: [Constraint; N],
) -> Table<'static> {
    let row = |cells: Vec<String>| Row::new(cells.into_iter().map(|cell| printable(&cell)));
    let heading = Row::new(headings).style(Style::new().fg(Color::Cyan).add_modifier(Modifier::BOLD));
    Table::new(rows.map(row), widths).header(heading)
}

impl Page for Screen {
    fn text(&self) -> String {
        let text = |headings: &[&str], rows: Vec<Vec<String>>| {
            columns(headings.iter().map(ToString::to_string).collect(), rows)
        };
        let flows = self.flows.iter().take(FLOWS).map(FlowLine::cells).collect();
        let more = match self.flows.len().checked_sub(FLOWS) {
            Some(more @ 1..) => format!("and {more} more: proxyctl flow list\n"),
            Some(0) | None => String::new(),
        };
        [
            text(&SERVICES, self.services.iter().map(ServiceLine::cells).collect()),
            text(&DROPS, self.drops.iter().map(drop_cells).collect()),
            text(&CONNECTIONS, flows) + &more,
        ]
        .join("\n")
    }
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend};

    use super::*;

    fn screen() -> Screen {
        let service = |service: &str, per_second| ServiceLine {
            service: service.into(),
            flows: 2,
            opened: 30,
            per_second,
            refused: 1,
            dropped: 0,
        };
        let flow = FlowLine {
            service: "b/web:http".into(),
            protocol: "TCP".into(),
            client: "192.0.2.9:4000".into(),
            frontend: "10.96.0.1:80".into(),
            backend: "10.244.0.5:8080".into(),
        };
        Screen {
            services: vec![service("b/web:http", Some(5.0)), service("a/\x1b[2Jred:http", None)],
            drops: vec![DropRow {
                reason: "no-endpoints",
                outcome: "reject",
                count: 12,
                per_second: Some(2.5),
                in_driver: 0,
                meaning: "",
            }],
            flows: vec![flow],
        }
    }

    #[test]
    fn the_screen_has_three_tables_and_shows_escapes_without_obeying_them() {
        let mut terminal = Terminal::new(TestBackend::new(90, 16)).unwrap();
        terminal.draw(|frame| screen().draw(frame)).unwrap();
        let lines: Vec<String> = terminal
            .backend()
            .buffer()
            .content()
            .chunks(90)
            .map(|line| line.iter().map(|cell| cell.symbol()).collect())
            .collect();
        let title = " 2 Service ports, 1 connections on the packet road · q quits ";
        assert_eq!(lines[0], format!("┌{title:─<88}┐"));
        assert_eq!(lines[15], format!("└{}┘", "─".repeat(88)));
        let inside =
            lines[1..15].iter().map(|line| line.trim_matches('│').split_whitespace().collect::<Vec<_>>());
        assert_eq!(
            inside.map(|words| words.join(" ")).filter(|line| !line.is_empty()).collect::<Vec<_>>(),
            [
                "SERVICE FLOWS OPENED PER SECOND REFUSED DROPPED",
                "b/web:http 2 30 5.0 1 0",
                r"a/\u{1b}[2Jred:http 2 30 - 1 0",
                "LOST FOR OUTCOME COUNT PER SECOND",
                "no-endpoints reject 12 2.5",
                "CONNECTION OF PROTOCOL CLIENT FRONTEND BACKEND",
                "b/web:http TCP 192.0.2.9:4000 10.96.0.1:80 10.244.0.5:8080",
            ]
        );
    }

    #[test]
    fn the_text_has_the_same_tables() {
        let expected = "\
SERVICE                FLOWS  OPENED  PER SECOND  REFUSED  DROPPED
b/web:http             2      30      5.0         1        0
a/\\u{1b}[2Jred:http  2      30      -           1        0

LOST FOR      OUTCOME  COUNT  PER SECOND
no-endpoints  reject   12     2.5

CONNECTION OF  PROTOCOL  CLIENT          FRONTEND      BACKEND
b/web:http     TCP       192.0.2.9:4000  10.96.0.1:80  10.244.0.5:8080
";
        let squeeze = |text: &str| {
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>()
        };
        assert_eq!(squeeze(&screen().text()), squeeze(expected));
    }
}
