import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { runCommandLine } from '../../src/cli/command-line.js';
import { contentsOf, NAMES, Outside, plant } from '../checkpoint/plants.js';
import { startCoordinator } from '../cluster/processes.js';
import { slowTest } from '../slow.js';
import { sampled } from '../thorough.js';
import { type Finished, lantrain } from './run.js';

const RELEASED = join(import.meta.dirname, '../released/0.1.0');

// Each command line leaves its handlers of signals until the process ends.
process.setMaxListeners(0);

let dir: string;
let run: string;
let outside: Outside;
let before: unknown;

beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'lantrain-planted-'));
  run = join(dir, 'run');
  cpSync(join(RELEASED, 'text.txt'), join(dir, 'text.txt'));
  outside = new Outside(join(dir, 'outside'));
  before = outside.snapshot();
  fresh();
});
afterEach(() => {
  expect(outside.snapshot(), 'what lies outside of the run').toEqual(before);
  rmSync(dir, { recursive: true, force: true });
});

/** A run as version 0.1.0 left it, by a coordinator whose secrets somebody else knows. */
function fresh(): void {
  rmSync(run, { recursive: true, force: true });
  cpSync(join(RELEASED, 'coordinator-f32'), run, { recursive: true });
  writeFileSync(join(run, 'cluster', 'token'), KNOWN_TOKEN);
}
const KNOWN_TOKEN = 'k'.repeat(32);

const WRITERS: readonly (readonly [string, ...string[]])[] = [
  ['train', '--resume'],
  ['coordinator', '--listen', '127.0.0.1:0', '--resume'],
  ['demo', '--resume'],
  ['report'],
];

describe.skipIf(process.platform === 'win32')('a run directory with a link in it', () => {
  test.each(WRITERS)(
    'a run directory with a link in it is refused by %s in one line, and nothing changes, wherever the link lies',
    async (...command) => {
      for (const name of NAMES) {
        // The released run has its only checkpoint at another step.
        const planted = name.replace('000004', '000005');
        plant(run, planted, 'a link to a file', outside);
        const there = contentsOf(run);
        let printed = '';
        const keep = (text: unknown) => {
          printed += text;
          return true;
        };
        const spies = [process.stdout, process.stderr].map((stream) =>
          vi.spyOn(stream, 'write').mockImplementation(keep),
        );
        const code = await runCommandLine([...command, run]).finally(() => {
          for (const spy of spies) spy.mockRestore();
        });
        expect(printed).toMatch(
          planted === 'config.json'
            ? /^error LT_RUN_FOREIGN: .*config\.json: it is a symbolic link.*\n$/
            : /^error LT_RUN_FOREIGN: cannot use .*: it is a symbolic link, and none is followed there; .*\n$/,
        );
        expect(printed).toContain(join(run, planted));
        expect(code).toBe(1);
        expect(contentsOf(run)).toEqual(there);
        expect(outside.snapshot(), planted).toEqual(before);
        rmSync(join(run, planted));
        if (existsSync(join(RELEASED, 'coordinator-f32', planted))) fresh();
      }
    },
  );

  /** The worst attack for each command: code that a shell runs, a folder that is pruned, secrets that others know. */
  const worst: Readonly<Record<string, () => void>> = {
    'lines for a start-up file of a shell': () => plant(run, 'metrics.jsonl', 'a link to a file', outside),
    'a file under the name of a temporary': () => {
      for (const name of ['report.html.partial', 'metrics.jsonl.partial', 'loss.svg.partial'])
        plant(run, name, 'a link to a file', outside);
      plant(run, 'cluster/incarnation.partial', 'a link to nothing', outside);
    },
    'a folder in the place of old checkpoints': () => plant(run, 'checkpoints/000001', 'a link to a folder', outside),
    'a pipe for a run': () => plant(run, 'metrics.jsonl', 'a pipe', outside),
    'a second name of a file': () => plant(run, 'samples.txt', 'a second name of a file', outside),
  };

  test.each(sampled(Object.keys(worst), 5))(
    'a run directory with %s is refused by the built command line',
    async (what) => {
      worst[what]();
      const there = contentsOf(run);
      // They run at once, because none of them writes anything.
      const ends = await Promise.all(WRITERS.map((command) => lantrain([...command, 'run'], { cwd: dir })));
      for (const { code, stdout, stderr } of ends) {
        expect(stderr).toMatch(/^error LT_RUN_FOREIGN: cannot use run\/.*\n$/);
        expect(stdout).toBe('');
        expect(code).toBe(1);
      }
      expect(contentsOf(run)).toEqual(there);
    },
  );

  test('a run directory with a link in it may be read: what only reads changes nothing and ends', async () => {
    const there = () => contentsOf(run);
    const readers: readonly (readonly [string[], (result: Finished) => void])[] = [
      [['export', '--run', 'run', '--out', 'out'], ({ stdout }) => expect(stdout).toContain('wrote the weights')],
      [
        ['generate', '--run', 'run', '--prompt', 'the', '--tokens', '1'],
        ({ stdout }) => expect(stdout).toMatch(/^the/),
      ],
      [['view', 'run'], ({ stdout }) => expect(stdout).toContain('Ctrl-C ends it')],
    ];
    for (const [args, expectDone] of readers) {
      fresh();
      for (const name of ['lock', 'samples.txt', 'report.html.partial', 'checkpoints/000001', 'cluster/token'])
        plant(run, name, 'a link to a folder', outside);
      plant(run, 'loss.svg', 'a second name of a file', outside);
      const planted = there();
      const onOutput = (text: string, signal: (s: NodeJS.Signals) => void) => {
        if (text.includes('Ctrl-C ends it')) signal('SIGINT');
      };
      const result = await lantrain(args, { cwd: dir, onOutput });
      expectDone(result);
      expect(result.code, result.stderr).toBe(0);
      expect(there()).toEqual(planted);
    }
    expect(readdirSync(join(dir, 'out')).sort()).toEqual(['config.json', 'model.safetensors']);
  });

  slowTest('a new run and an export follow no link that lies ready', async () => {
    mkdirSync(join(dir, 'new'));
    plant(join(dir, 'new'), 'config.json.partial', 'a link to a file', outside);
    const refused = await lantrain(['train', '--data', 'text.txt', '--tokenizer', 'bytes', '--out', 'new'], {
      cwd: dir,
    });
    expect(refused.stderr).toMatch(
      /error LT_RUN_FOREIGN: cannot use new\/config\.json\.partial: it is a symbolic link/,
    );
    mkdirSync(join(dir, 'out'));
    const names = ['model.safetensors.partial', 'config.json.partial'];
    for (const name of names) plant(join(dir, 'out'), name, 'a link to a file', outside);
    const full = await lantrain(['export', '--run', 'run', '--out', 'out'], { cwd: dir });
    expect(full.stderr).toContain('error LT_RUN_EXISTS: out exists and is not empty');
    expect(readdirSync(join(dir, 'out')).sort()).toEqual(names.sort());
  });
});

describe('a coordinator that goes on with a run from elsewhere', () => {
  const coordinators: { signal(signal: NodeJS.Signals): void; readonly ended: Promise<unknown> }[] = [];
  afterAll(() => {
    for (const one of coordinators) one.signal('SIGKILL');
  });

  slowTest(
    'a run from elsewhere gets a token that nobody knows, says so, and keeps it, also behind a link to the run',
    async () => {
      const start = async (path: string) => {
        const { coordinator, url } = await startCoordinator(['--resume', path], dir);
        coordinators.push(coordinator);
        coordinator.signal('SIGKILL');
        await coordinator.ended;
        return { url: url.replace(/:\d+\//, ':PORT/'), text: coordinator.text };
      };
      const first = await start('run');
      expect(first.text).toMatch(
        /^access {3}the run's secrets are of an earlier version, or of .*: new token, new cert/m,
      );
      expect(first.url).not.toContain(KNOWN_TOKEN);
      expect(readFileSync(join(run, 'cluster', 'token'), 'utf8')).not.toBe(KNOWN_TOKEN);
      symlinkSync('run', join(dir, 'link'));
      const second = await start('link');
      expect(second.text).not.toContain('access   ');
      expect(second.url).toBe(first.url);
      expect(readFileSync(join(run, 'cluster', 'incarnation'), 'utf8')).toBe('3\n');
    },
  );

  slowTest('a run from elsewhere shows its page by a token that nobody knows as well', async () => {
    const { code, stdout, stderr } = await lantrain(['train', '--resume', 'run', '--watch'], { cwd: dir });
    expect(code, stderr).toBe(0);
    const printed = stdout + stderr;
    expect(printed).toMatch(/^access {3}the run's secrets are of an earlier version, or of .*: new token, new cert/m);
    expect(printed).toMatch(/^watch {4}http:/m);
    expect(printed).not.toContain(KNOWN_TOKEN);
  });

  slowTest('a run from elsewhere does not begin where its count of starts would wrap round', async () => {
    for (const text of ['4294967295', '2147483647', '-1']) {
      writeFileSync(join(run, 'cluster', 'incarnation'), text);
      const there = contentsOf(run);
      const { code, stderr } = await lantrain(['coordinator', '--listen', '127.0.0.1:0', '--resume', 'run'], {
        cwd: dir,
      });
      expect(stderr).toMatch(
        /error LT_CHECKPOINT_CORRUPT: run\/cluster\/incarnation counts the starts of a coordinator/,
      );
      expect(code).toBe(1);
      expect(contentsOf(run)).toEqual(there);
    }
  });
});
