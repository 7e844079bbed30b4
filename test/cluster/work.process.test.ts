import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, expect, test, vi } from 'vitest';
import { work } from '../../cluster/work.js';
import type { WorkEvent } from '../../cluster/work-events.js';
import { newToken } from '../../src/net/access.js';
import { formatJoinUrl, parseJoinUrl } from '../../src/net/join-url.js';
import { failure } from '../checkpoint/helpers.js';
import { lantrain, SMALL, workFolder } from '../cli/run.js';
import { slowTest } from '../slow.js';
import { type Lantrain, startCoordinator } from './processes.js';

const folder = workFolder();
const running: Lantrain[] = [];
/** Everything that this process writes. */
let output = '';
beforeEach(() => {
  output = '';
  for (const name of ['stdout', 'stderr'] as const)
    vi.spyOn(process[name], 'write').mockImplementation((text) => {
      output += String(text);
      return true;
    });
});
afterEach(async () => {
  vi.restoreAllMocks();
  for (const one of running.splice(0)) {
    one.signal('SIGKILL');
    await one.ended;
  }
});
afterAll(() => folder.remove());

async function coordinate(out: string, steps: number) {
  const args = [...SMALL, '--batch', '8', '--steps', String(steps), '--out', out];
  const { coordinator, url } = await startCoordinator(args, folder.path);
  running.push(coordinator);
  return { coordinator, url, args };
}

const listeners = () => process.eventNames().map((name) => [name, process.listenerCount(name)]);
const kinds = (events: readonly WorkEvent[]) => events.map(({ event }) => event);

slowTest(
  'a worker computes a run to its end, tells each event in order, prints nothing and leaves no listener',
  async () => {
    const before = listeners();
    const { coordinator, url, args } = await coordinate('whole', 6);
    const events: WorkEvent[] = [];
    const result = await work({ url, name: 'ahab' }, { onEvent: (event) => events.push(event) });
    expect(await coordinator.ended, coordinator.text).toBe(0);
    expect(output).toBe('');
    expect(listeners()).toEqual(before);
    expect(kinds(events).slice(0, 4)).toEqual(['adapter', 'joined', 'welcome', 'compiling']);
    const { host, port } = parseJoinUrl(url);
    expect(events).toContainEqual({ event: 'joined', host, port });
    expect(events.find(({ event }) => event === 'waiting')).toEqual({ event: 'waiting', step: 0 });
    const computed = events.flatMap((event) => (event.event === 'computed' ? [event] : []));
    expect([...new Set(computed.map(({ step }) => step))]).toEqual([1, 2, 3, 4, 5, 6]);
    const tokens = 6 * 8 * 16;
    expect(computed.reduce((sum, one) => sum + one.tokens, 0)).toBe(tokens);
    expect(computed.reduce((sum, one) => sum + one.share, 0)).toBeCloseTo(6, 9);
    expect(result).toEqual({ how: 'done', tokens });
    expect(events.at(-1)).toEqual({ event: 'end', how: 'done', tokens });
    const alone = await lantrain(['train', ...args, '--json', '--out', 'alone'], { cwd: folder.path });
    expect(coordinator.digest()).toBe(alone.events.at(-1)?.digest);
  },
);

slowTest('a worker whose signal is aborted leaves, and another of the same process goes on with the run', async () => {
  const { coordinator, url } = await coordinate('left', 12);
  const leave = new AbortController();
  const onEvent = (event: WorkEvent) => {
    // Its current work is lost then, but not what it computed before.
    if (event.event === 'computed' && event.step === 3) leave.abort();
  };
  const { how, tokens } = await work({ url, name: 'first' }, { onEvent, signal: leave.signal });
  expect(how).toBe('left');
  expect(tokens).toBeGreaterThan(0);
  expect(await work({ url }, { signal: AbortSignal.abort() })).toEqual({ how: 'left', tokens: 0 });
  expect(coordinator.running).toBe(true);
  // The token as a separate option, for URLs that others may see.
  const { token = '', ...rest } = parseJoinUrl(url);
  expect(await work({ url: formatJoinUrl(rest), token, name: 'second' })).toMatchObject({ how: 'done' });
  expect(await coordinator.ended, coordinator.text).toBe(0);
  expect(coordinator.text).toMatch(/worker {3}first: .*\n.*worker {3}second: /);
});

slowTest('a worker that loses its coordinator says so once, and fails when its patience is over', async () => {
  const { coordinator, url } = await coordinate('lost', 1000);
  const events: WorkEvent[] = [];
  const onEvent = (event: WorkEvent) => {
    events.push(event);
    if (event.event === 'computed' && event.step === 2) coordinator.signal('SIGKILL');
  };
  await failure('LT_CLUSTER_CONNECT', () => work({ url, patience: 2 }, { onEvent }));
  const lost = events.flatMap((event) => (event.event === 'lost' ? [event.reason] : []));
  // The connection was lost, and there has been no answer since.
  expect(lost).toEqual([expect.any(String), expect.stringMatching(/^cannot reach a coordinator at /)]);
  expect(output).toBe('');
});

test('what is wrong with options or token is said before an adapter is opened', async () => {
  const url = 'ws://127.0.0.1:9/';
  const events: WorkEvent[] = [];
  const fails = (options: object, ask?: () => Promise<string>) => () =>
    work({ url, ...options }, { onEvent: (event) => events.push(event), askForToken: ask });
  const token = newToken();
  vi.stubEnv('LANTRAIN_TOKEN', undefined);
  expect(await failure('LT_USAGE_OPTION', fails({ patience: -1 }))).toBe('worker: patience must be at least 0');
  expect(await failure('LT_USAGE_OPTION', fails({ name: ' ' }))).toBe('worker: name has no letter');
  expect(await failure('LT_USAGE_OPTION', fails({ speed: 1 }))).toMatch(/has speed, which do not belong there/);
  await failure('LT_CLUSTER_URL', fails({ url: 'hello' }));
  await failure('LT_CLUSTER_TOKEN', fails({}));
  await failure('LT_CLUSTER_TOKEN', fails({ token: 'short' }));
  await failure('LT_CLUSTER_TOKEN', fails({ tokenFile: 'nowhere' }));
  writeFileSync(join(folder.path, 'token.txt'), token);
  const tokenFile = join(folder.path, 'token.txt');
  await failure('LT_USAGE_OPTION', fails({ token, tokenFile }));
  await failure('LT_USAGE_OPTION', fails({ url: `${url}#${token}`, tokenFile }));
  await failure('LT_USAGE_OPTION', fails({ url: `${url}#${token}`, token }));
  await expect(fails({}, () => Promise.reject(new Error('asked')))()).rejects.toThrow('asked');
  expect(events).toEqual([]);
  vi.unstubAllEnvs();
});
