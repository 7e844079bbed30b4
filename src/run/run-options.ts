import { z } from 'zod';
import { listenAddress } from '../node/lan-address.js';
import { option } from '../train/option-table.js';
import { DEFAULT_PRESET, PRESET_NAMES, presetNamed } from '../train/presets.js';

const name = z.string().min(1);

/** The options of a training command that say where a run lies and what it shows: no run's configuration keeps them. */
export const RUN_OPTIONS = {
  /** `tiny` where neither it nor `init` or `resume` is given. */
  preset: option(z.enum(PRESET_NAMES), {
    topic: 'Run',
    value: '<name>',
    help: `a shape with its settings: ${PRESET_NAMES.join(', ')}`,
    defaultWords: DEFAULT_PRESET,
    check: presetNamed,
    affectsSpeed: true,
  }),
  /** The run's folder; the first free `runs/<preset>-<n>` where it is left out. */
  out: option(name, {
    topic: 'Run',
    value: '<dir>',
    help: 'the run directory',
    defaultWords: 'runs/<preset>-<n>',
  }),
  /** The folder of a run to go on with. */
  resume: option(name, { topic: 'Run', value: '<dir>', help: 'go on with a run, in its directory, bit for bit' }),
  config: option(name, {
    topic: 'Run',
    value: '<file>',
    help: "options by their names in a JSON file, or a run's config.json; flags win",
  }),
  /** A Hugging Face GPT-2 folder to begin with. */
  init: option(name, {
    topic: 'Model',
    value: '<dir>',
    help: 'begin with the weights and the shape of a Hugging Face GPT-2 folder',
  }),
  /** The GPU whose name contains this. */
  adapter: option(name, {
    topic: 'Computing',
    value: '<name>',
    help: 'the GPU whose name contains this',
    affectsSpeed: true,
  }),
  /** A JSON file, or `auto` for the plan of this adapter. */
  plan: option(name, {
    topic: 'Computing',
    value: '<file>',
    help: 'kernel plan: a JSON file, or auto for the one made for this adapter',
    affectsSpeed: true,
  }),
  /** True: the fastest kernels, whatever their bits; false: those of the plan; undefined: the fastest of the same bits. */
  tune: option(z.boolean(), {
    topic: 'Computing',
    help: "time kernels first and take the fastest that are right, even with other bits than the table's",
    no: 'take the kernels of the table as they are',
    defaultWords: 'the fastest of equal bits',
  }),
  json: option(z.boolean(), { topic: 'Reports', help: 'print metrics events as JSON lines on stdout, nothing else' }),
  /** Times every kernel at the end, see `ProfileEvent`. */
  profile: option(z.boolean(), {
    topic: 'Reports',
    help: 'print the time of every kernel at the end',
    who: 'alone',
  }),
  // The page of a cluster's run is the coordinator's own.
  watch: option(name, {
    topic: 'Reports',
    value: '[host:port]',
    bare: '127.0.0.1:0',
    help: 'serve a page that shows the run; without a value at 127.0.0.1, on a free port',
    check: (text) => void listenAddress(text, '--watch'),
    who: 'alone',
  }),
} as const;
