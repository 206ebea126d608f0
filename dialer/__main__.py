"""The command line."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import trio
import trio.lowlevel
import typer
from sqlmodel import Session

from campaigns import audit, outcomes, store
from campaigns.campaign import Campaign, CampaignStatus, parse_campaign
from campaigns.database import Database
from campaigns.sound_files import SoundFile, note_sound_files, read_sound_files
from campaigns.tables import CallOutcomeRow, CdrRow
from dialer import door
from dialer.command_line import (
    DEFAULT_CONFIG,
    CampaignOption,
    ConfigOption,
    CsvOption,
    JsonLinesOption,
    JsonOption,
    in_database,
    read,
    right_now,
    tell_daemon,
    write,
)
from dialer.errors import ConfigurationError, DialerError, InputRefusedError, UnavailableError
from dialer.lead_commands import leads_app, list_app
from dialer.log import configure_logging
from dialer.rule_commands import campaign_dry_run, check_lead, dnc_app, show_audit
from dialer.settings import Settings, door_in, load_settings
from dialer.text_table import safe_cell

# sysexits.h. systemd must not restart what only a person can mend: RestartPreventExitStatus=78.
EX_DATAERR: Final = 65
EX_UNAVAILABLE: Final = 69
EX_CONFIG: Final = 78

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
campaign_app = typer.Typer(no_args_is_help=True, help="Campaigns: add, list, start, pause, stop.")
report_app = typer.Typer(no_args_is_help=True, help="Reports, read from the database: abandonment.")
agent_app = typer.Typer(
    no_args_is_help=True, help="Agents: ready, pause, logout, hangup, offer, accept, skip, dispose."
)
app.add_typer(campaign_app, name="campaign")
app.add_typer(leads_app, name="leads")
app.add_typer(list_app, name="list")
app.add_typer(agent_app, name="agent")
app.add_typer(report_app, name="report")
app.add_typer(dnc_app, name="dnc")
app.command("check-lead")(check_lead)
app.command("audit")(show_audit)
campaign_app.command("dry-run")(campaign_dry_run)


@app.command()
def run(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Run the dialer until SIGTERM or Ctrl-C."""
    from dialer.daemon import run_daemon

    settings = load_settings(config)
    configure_logging(settings.log.level, settings.log.format)
    trio.run(partial(run_daemon, settings, load=partial(load_settings, config)))


@app.command()
def check(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Check a configuration file: every key, password files, and where a Redis comes from."""
    from dialer.shared_state import find_redis_server

    settings = load_settings(config)
    for switch in settings.switch:
        switch.secret()
    redis = settings.redis.url or f"a private one, run by {find_redis_server()}"
    typer.echo(f"{config}: good")
    typer.echo(f"  node       {settings.node}")
    typer.echo(f"  switches   {', '.join(f'{one.name} at {one.host}:{one.port}' for one in settings.switch)}")
    for one in settings.gateway:
        typer.echo(
            f"  gateway    {one.name} on {one.switch}: {one.concurrency} calls, {one.calls_per_second:g} a second"
        )
    typer.echo(f"  redis      {redis}")
    typer.echo(f"  door       {settings.door.path}")


@campaign_app.command("add")
def campaign_add(file: Path, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Add the campaign in a TOML file, or change the one of that name."""
    settings = load_settings(config)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputRefusedError(f"{file}: cannot be read: {error}") from error
    campaign = parse_campaign(text, str(file))
    for gateway in campaign.gateways:
        if settings.gateway_named(gateway) is None:
            names = ", ".join(one.name for one in settings.gateway)
            raise InputRefusedError(f"{file}: gateways: {config} has no gateway {gateway!r}; it has {names}")
    sounds, unread = read_sound_files(campaign)
    for setting, reason in unread.items() if _plays_here(campaign, settings) else ():
        typer.echo(f"{file}: {setting}: {reason}; nobody is called until the switch has it", err=True)
    saved: store.Saved = in_database(settings, partial(_keep_campaign, campaign=campaign, sounds=sounds))
    what = "changed" if saved.changed else "the same"
    if saved.created:
        what = f"added; start it with `dialer campaign start {campaign.name}`"
    typer.echo(f"campaign {campaign.name}: {what}{tell_daemon(settings) if saved.changed else ''}")


def _plays_here(campaign: Campaign, settings: Settings) -> bool:
    """Whether the campaign's switches most likely have the files of this machine."""
    gateways = [settings.gateway_named(name) for name in campaign.gateways]
    switches = {gateway.switch for gateway in gateways if gateway is not None}
    return all(one.is_here for one in settings.switch if one.name in switches)


async def _keep_campaign(database: Database, campaign: Campaign, sounds: Sequence[SoundFile]) -> store.Saved:
    saved = await database.write(partial(_save_campaign, campaign=campaign, sounds=sounds))
    other_seller = saved.before is not None and saved.before.seller != campaign.seller
    look_again = partial(
        store.reconsider, campaign_row_id=saved.row.id or 0, now=right_now(), suppressed=other_seller
    )
    looked_at = 1 if saved.changed else 0
    while looked_at:
        looked_at = await database.write(look_again)
    return saved


def _save_campaign(session: Session, campaign: Campaign, sounds: Sequence[SoundFile]) -> store.Saved:
    now = right_now()
    saved = store.add_campaign(session, campaign, now)
    note_sound_files(session, campaign.name, sounds, audit.this_person(), now)
    if saved.created or saved.changed:
        before = saved.before.model_dump(mode="json") if saved.before is not None else None
        audit.note(
            session,
            who=audit.this_person(),
            action="change" if saved.changed else "add",
            kind="campaign",
            subject=campaign.name,
            now=now,
            before=before,
            after=campaign.model_dump(mode="json"),
        )
    return saved


@campaign_app.command("list")
def campaign_list(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """List the campaigns and their leads by status."""
    settings = load_settings(config)
    found = read(settings, store.list_campaigns)
    rows = [
        {
            "name": one.row.name,
            "status": one.row.status.value,
            "leads": {status.value: count for status, count in one.leads.items()},
        }
        for one in found
    ]
    if as_json:
        typer.echo(json.dumps(rows))
        return
    if not rows:
        typer.echo("no campaigns yet; add one with `dialer campaign add FILE.toml`")
    for row in rows:
        leads: Any = row["leads"]
        text = ", ".join(f"{count} {status}" for status, count in leads.items() if count) or "no leads"
        typer.echo(f"{row['name']:24} {row['status']:8} {text}")


_ACTIONS: Final = {
    CampaignStatus.RUNNING: "start",
    CampaignStatus.PAUSED: "pause",
    CampaignStatus.STOPPED: "stop",
}


def _set_status(name: str, status: CampaignStatus, config: Path) -> None:
    settings = load_settings(config)

    def change(session: Session) -> None:
        now = right_now()
        before = store.get_campaign(session, name).status
        store.set_campaign_status(session, name, status, now)
        who, was = audit.this_person(), {"status": before.value}
        after = {"status": status.value}
        audit.note(
            session, who=who, action=_ACTIONS[status], kind="campaign", subject=name, now=now, before=was, after=after
        )

    write(settings, change)
    typer.echo(f"campaign {name}: {status.value}{tell_daemon(settings)}")


@campaign_app.command("start")
def campaign_start(name: str, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Dial for a campaign from now on."""
    _set_status(name, CampaignStatus.RUNNING, config)


@campaign_app.command("pause")
def campaign_pause(name: str, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Begin no further call; those under way go on."""
    _set_status(name, CampaignStatus.PAUSED, config)


@campaign_app.command("stop")
def campaign_stop(name: str, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Begin no further call and take back those that ring; conversations go on."""
    _set_status(name, CampaignStatus.STOPPED, config)


@agent_app.command("ready")
def agent_ready(extension: str, campaign: CampaignOption, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Log an agent in, or make a paused one ready again."""
    path = load_settings(config).door.path
    typer.echo(door.ask(path, "agent_ready", extension=extension, campaign=campaign))


@agent_app.command("pause")
def agent_pause(extension: str, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Give an agent no further call; the one that is on goes on."""
    typer.echo(door.ask(load_settings(config).door.path, "agent_pause", extension=extension))


@agent_app.command("logout")
def agent_logout(extension: str, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Log an agent out; a conversation that is on goes on."""
    typer.echo(door.ask(load_settings(config).door.path, "agent_logout", extension=extension))


@agent_app.command("hangup")
def agent_hangup(extension: str, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """End an agent's conversation; a nailed-up phone stays connected."""
    typer.echo(door.ask(load_settings(config).door.path, "agent_hangup", extension=extension))


@agent_app.command("offer")
def agent_offer(extension: str, config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Show the lead that an agent of a preview campaign is offered now."""
    offer = door.ask(load_settings(config).door.path, "agent_offer", extension=extension)
    if as_json:
        typer.echo(json.dumps(offer))
        return
    typer.echo(f"{offer['number']}  campaign {offer['campaign']}, {offer['seconds_left']:.0f} s left")
    for name, value in offer["fields"].items():
        typer.echo(f"  {name}: {value}")


@agent_app.command("accept")
def agent_accept(extension: str, config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Call the lead that an agent is offered, for that agent."""
    typer.echo(door.ask(load_settings(config).door.path, "agent_accept", extension=extension))


@agent_app.command("skip")
def agent_skip(
    extension: str,
    config: ConfigOption = DEFAULT_CONFIG,
    reason: Annotated[str, typer.Option(help="Why; it is kept on the record.")] = "",
) -> None:
    """Do not call the lead that an agent is offered."""
    typer.echo(door.ask(load_settings(config).door.path, "agent_skip", extension=extension, reason=reason))


@agent_app.command("dispose")
def agent_dispose(
    extension: str,
    name: Annotated[str, typer.Argument(help="One of the campaign's dispositions.")],
    config: ConfigOption = DEFAULT_CONFIG,
    at: Annotated[
        str,
        typer.Option(help="A call-back's time, like \"2026-12-01 15:00\": on the person's clock, or with an offset."),
    ] = "",
    in_minutes: Annotated[float | None, typer.Option(min=0, help="Or the minutes until then.")] = None,
    for_anyone: Annotated[
        bool, typer.Option("--for-anyone/--for-me", help="Whose call-back it is; the agent's own, left out.")
    ] = False,
    note: Annotated[str, typer.Option(help="What else there is to tell, one line.")] = "",
) -> None:
    """Say what became of an agent's conversation, during it or for a while after it."""
    path = load_settings(config).door.path
    typer.echo(
        door.ask(
            path,
            "agent_dispose",
            extension=extension,
            name=name,
            at=at,
            in_minutes=in_minutes,
            for_anyone=for_anyone,
            note=note,
        )
    )


@app.command()
def status(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Show what a running daemon does, and why it dials or does not."""
    from dialer.status_view import status_text

    answer = door.ask(load_settings(config).door.path, "status")
    typer.echo(json.dumps(answer) if as_json else status_text(answer))


@app.command("stop-all")
def stop_all(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Stop every campaign at once and take back what rings; conversations go on."""
    try:
        typer.echo(door.ask(door_in(config), "stop_all"))
    except UnavailableError:  # nobody dials; and nobody is to begin with the next start
        names = write(load_settings(config), _stop_all)
        typer.echo(f"no daemon is running; stopped in the database: {', '.join(names) or 'no campaign was running'}")


def _stop_all(session: Session) -> Sequence[str]:
    now = right_now()
    names = store.stop_all_campaigns(session, now)
    who = audit.this_person()
    audit.note(session, who=who, action="stop-all", kind="dialer", subject="", now=now, after={"campaigns": names})
    return names


@app.command("reload")
def reload_configuration(config: ConfigOption = DEFAULT_CONFIG) -> None:
    """Let the running daemon take over its configuration file, whole or not at all."""
    typer.echo(door.ask(load_settings(config).door.path, "reload"))


@app.command()
def cdr(
    campaign: CampaignOption,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonLinesOption = False,
    as_csv: CsvOption = False,
) -> None:
    """Print the record of every finished attempt of a campaign, oldest first."""
    if as_json and as_csv:
        raise InputRefusedError("--json and --csv exclude each other; choose one")
    settings = load_settings(config)

    async def export(database: Database) -> None:
        row = await database.read(lambda session: store.get_campaign(session, campaign))
        names = [*CdrRow.model_fields, *outcomes.columns(None)]
        writer = csv.writer(sys.stdout)
        if as_csv:
            writer.writerow(names)
        last: CdrRow | None = None
        while page := await database.read(partial(_page, campaign_id=row.id or 0, after=last)):
            for record, outcome in page:
                told = record.model_dump(mode="json") | outcomes.columns(outcome)
                values = {name: told[name] for name in names}  # a row that was read tells them in any order
                if as_json:
                    typer.echo(json.dumps(values))
                elif as_csv:
                    writer.writerow([safe_cell(value) for value in values.values()])
                else:
                    typer.echo(_cdr_line(record, outcome))
            last = page[-1][0]

    in_database(settings, export)


def _page(session: Session, *, campaign_id: int, after: CdrRow | None) -> list[tuple[CdrRow, CallOutcomeRow | None]]:
    records = store.cdrs(session, campaign_id, after=after)
    said = outcomes.of_calls(session, [record.attempt_uuid for record in records])
    return [(record, said.get(record.attempt_uuid)) for record in records]


def _cdr_line(record: CdrRow, outcome: CallOutcomeRow | None) -> str:
    said = "" if outcome is None else f"  {outcome.name}"
    seconds = "" if record.talk_ms is None else f"{record.talk_ms / 1000:.1f} s"
    return (
        f"{record.originated_at:%Y-%m-%d %H:%M:%S}  {record.number:16} {record.disposition.value:14} "
        f"{record.hangup_cause:28} {record.gateway:12} {record.agent or '':8} {seconds}{said}"
    )


@report_app.command("abandonment")
def report_abandonment(
    campaign: CampaignOption,
    config: ConfigOption = DEFAULT_CONFIG,
    as_json: JsonOption = False,
    as_csv: CsvOption = False,
    days: Annotated[int, typer.Option(min=1, max=3660, help="How many, today the last of them.")] = 30,
    calls: Annotated[
        bool, typer.Option("--calls", help="List each abandoned call too; with --csv, instead of the days.")
    ] = False,
    show_numbers: Annotated[
        bool, typer.Option("--show-numbers", help="The whole numbers of the calls, which are masked otherwise.")
    ] = False,
) -> None:
    """Show how many who answered found nobody in time: by day, over 30 days, and against the limit.

    Days are those of the campaign's timezone, or of UTC if it has none.
    """
    from dialer.abandonment_report import read_report, report_csv, report_json, report_text

    if as_json and as_csv:
        raise InputRefusedError("--json and --csv exclude each other; choose one")
    settings = load_settings(config)
    report = read(settings, lambda session: read_report(session, campaign, right_now(), days=days, with_calls=calls))
    if as_csv:
        sys.stdout.write(report_csv(report, show_numbers=show_numbers))
    else:
        show = report_json if as_json else report_text
        typer.echo(show(report, show_numbers=show_numbers))


@app.command()
def simulator(
    port: Annotated[int, typer.Option(help="0 for any free one.")] = 8021,
    host: str = "127.0.0.1",
    scenario: Annotated[Path | None, typer.Option(help="A TOML file, like config/scenario.toml.")] = None,
    seed: int = 1,
) -> None:
    """Run a simulated FreeSWITCH: event socket, phones, carriers and callers, no sound."""
    from dialer.simulator.process import run_simulator
    from dialer.simulator.scenario import Scenario, load_scenario

    chosen = load_scenario(scenario) if scenario is not None else Scenario()
    trio.run(partial(run_simulator, host, port, chosen, seed))


@app.command()
def demo(
    agents: Annotated[int, typer.Option(min=1, max=1000)] = 10,
    leads: Annotated[int, typer.Option(min=1, max=100_000)] = 2000,
    seconds: Annotated[float, typer.Option(min=1, help="How long to dial.")] = 30.0,
    seed: int = 1,
    as_json: JsonOption = False,
) -> None:
    """Run the whole daemon against a simulated FreeSWITCH, in a temporary folder."""
    from dialer.demo import run_demo

    summary = trio.run(partial(run_demo, agents=agents, leads=leads, seconds=seconds, seed=seed, live=not as_json))
    if as_json:
        typer.echo(json.dumps(summary))
    else:
        connect = summary["answer_to_bridge_ms"]
        typer.echo(
            f"\n{summary['originated']} calls, {summary['answered']} answered, {summary['bridged']} bridged, "
            f"{summary['abandoned']} abandoned ({summary['abandoned_percent']} %); agents busy "
            f"{summary['occupancy_percent']} % of the time; answer to agent {connect['p50']:.0f} ms, "
            f"{connect['p99']:.0f} ms in the worst hundredth"
        )


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _exit_for(error: DialerError) -> NoReturn:
    typer.echo(f"dialer: {error}", err=True)
    if isinstance(error, ConfigurationError):
        raise SystemExit(EX_CONFIG)
    raise SystemExit(EX_UNAVAILABLE if isinstance(error, UnavailableError) else EX_DATAERR)


def main() -> None:
    """Runs a command; what a person can mend becomes one message and an exit code of sysexits.h."""
    try:
        app()
    except DialerError as error:
        _exit_for(error)
    except BaseExceptionGroup as group:
        expected = [error for error in _leaves(group) if isinstance(error, DialerError)]
        if len(expected) != len(list(_leaves(group))):
            raise
        _exit_for(expected[0])


if __name__ == "__main__":
    main()
