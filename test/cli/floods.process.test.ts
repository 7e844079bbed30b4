import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { WebSocket } from 'ws';
import { onlyFromCoordinator } from '../../cluster/protocol/protocol.js';
import { connect } from '../../cluster/transport/client.js';
import type { WorkerConnection } from '../../cluster/transport/connection.js';
import { type JoinUrl, parseJoinUrl } from '../../src/net/join-url.js';
import { parseMetrics } from '../../src/report/events.js';
import { type Lantrain, startCoordinator } from '../cluster/processes.js';
import { lantrain, SMALL, workFolder } from './run.js';

const folder = workFolder();
const running: Lantrain[] = [];
afterAll(async () => {
  for (const one of running) {
    one.signal('SIGKILL');
    await one.ended;
  }
  folder.remove();
});

const TIMES = 60;

/** Whether `connection` becomes a member; false where it is refused. */
function admitted(connection: WorkerConnection, name: string, hash: string): Promise<boolean> {
  const nothing = () => {};
  return new Promise((end) => {
    connection.onClose = () => end(false);
    connection.onControl = onlyFromCoordinator({
      welcome: nothing,
      probe: ({ probe }) => connection.send({ type: 'probed', probe, hash }),
      admit: () => end(true),
      assign: nothing,
      evaluate: nothing,
      revoke: nothing,
      'hand-back': nothing,
    });
    connection.send({ type: 'join', name, adapter: 'none' });
  });
}

/** Joins and leaves in a loop. Resolves with the number of times it was a member. */
async function comesAndGoes(url: JoinUrl): Promise<number> {
  let joins = 0;
  for (let i = 0; i < TIMES; i++) {
    const connection = await connect(url, { token: url.token ?? '', version: '0' }).catch(() => undefined);
    if (connection === undefined) continue;
    if (await admitted(connection, 'eve', 'e'.repeat(64))) joins++;
    connection.close();
  }
  return joins;
}

async function knocks({ host, port }: JoinUrl): Promise<void> {
  for (let i = 0; i < TIMES; i++) {
    const ws = new WebSocket(`ws://${host}:${port}/`);
    ws.on('error', () => {}).on('open', () => ws.close(4000, 'nobody'));
    await once(ws, 'close');
  }
}

test('a client that comes and goes, and one that knocks, get a few lines each, and all are counted', async () => {
  const args = [...SMALL, '--steps', '500', '--plain', '--out', 'run'];
  const { coordinator, url } = await startCoordinator(args, folder.path);
  running.push(coordinator);
  const joins = await comesAndGoes(parseJoinUrl(url));
  expect(joins).toBeGreaterThan(20);
  await knocks(parseJoinUrl(url));
  coordinator.signal('SIGINT');
  expect(await coordinator.ended, coordinator.text).toBe(130);

  const path = join(folder.path, 'run', 'metrics.jsonl');
  const events = parseMetrics(readFileSync(path, 'utf8'));
  for (const kind of ['join', 'mixed', 'leave'] as const) {
    const ofKind = events.flatMap((event) => (event.event === kind ? [event] : []));
    expect(ofKind.length, kind).toBeLessThan(20);
    expect(
      ofKind.reduce((sum, { count = 1 }) => sum + count, 0),
      kind,
    ).toBe(joins);
    for (const { worker, reason } of ofKind) {
      expect(worker).toBe('eve');
      if (kind !== 'leave') expect(reason).toContain('bit class ');
    }
  }
  expect(coordinator.events.filter(({ event }) => event === 'join').length).toBeLessThan(20);

  const refused = coordinator.text.split('\n').filter((line) => line.startsWith('refused '));
  expect(refused.length).toBeLessThan(20);
  const written = refused.filter((line) => !line.includes(' more in the last minute, '));
  // One line, or several where the test takes longer than a minute.
  const more = refused.flatMap((line) => /^refused (\d+) more in the last minute, of 1 address /.exec(line)?.[1] ?? []);
  expect(more.length).toBeGreaterThan(0);
  expect(more.reduce((sum, count) => sum + Number(count), written.length)).toBeGreaterThanOrEqual(TIMES);

  const report = await lantrain(['report', 'run'], { cwd: folder.path });
  expect(report.code, report.stderr).toBe(0);
  expect(readFileSync(join(folder.path, 'run', 'report.html'), 'utf8')).toMatch(/the last of \d\d/);
});
