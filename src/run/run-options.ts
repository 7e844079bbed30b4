import { z } from 'zod';
import { listenAddress } from '../node/lan-address.js';
import { option } from '../train/option-table.js';
import { DEFAULT_PRESET, PRESET_NAMES, presetNamed } from '../train/presets.js';

const name = z.string().min(1);

/**
 * The options of training commands on where a run lies and what it shows. They are not kept in the run's config.json.
 */
export const RUN_OPTIONS = {
  /** Default `tiny`, unless `init` or `resume` is given. */
  preset: option(z.enum(PRESET_NAMES), {
    topic: 'Run',
    value: '<name>',
    help: `a shape with its settings: ${PRESET_NAMES.join(', ')}`,
    defaultWords: DEFAULT_PRESET,
    check: presetNamed,
    affectsSpeed: true,
  }),
  /** The run's folder. Default: the first free `runs/<preset>-<n>`. */
  out: option(name, {
    topic: 'Run',
    value: '<dir>',
    help: 'the run directory',
    defaultWords: 'runs/<preset>-<n>',
  }),
  /** The folder of a run to resume. */
  resume: option(name, { topic: 'Run', value: '<dir>', help: 'go on with a run, in its directory, bit for bit' }),
  config: option(name, {
    topic: 'Run',
    value: '<file>',
    help: "options by their names in a JSON file, or a run's config.json; flags win",
  }),
  /** A Hugging Face GPT-2 folder whose weights and shape the run begins with. */
  init: option(name, {
    topic: 'Model',
    value: '<dir>',
    help: 'begin with the weights and the shape of a Hugging Face GPT-2 folder',
  }),
  /** Takes the first adapter whose name contains this text. Default: the system's choice. */
  adapter: option(name, {
    topic: 'Computing',
    value: '<name>',
    help: 'the GPU whose name contains this',
    affectsSpeed: true,
  }),
  /**
   * The kernel plan: a JSON file, or `auto` for this adapter's own. Default: the resumed run's, or this adapter's own.
   */
  plan: option(name, {
    topic: 'Computing',
    value: '<file>',
    help: 'kernel plan: a JSON file, or auto for the one made for this adapter',
    affectsSpeed: true,
  }),
  /**
   * True: the fastest kernels, whatever their bits. False: the plan's kernels. Undefined: the fastest kernels with the
   * plan's bits.
   */
  tune: option(z.boolean(), {
    topic: 'Computing',
    help: "time kernels first and take the fastest that are right, even with other bits than the table's",
    no: 'take the kernels of the table as they are',
    defaultWords: 'the fastest of equal bits',
  }),
  json: option(z.boolean(), { topic: 'Reports', help: 'print metrics events as JSON lines on stdout, nothing else' }),
  /** Times every kernel at the end of the run and tells a `ProfileEvent`. */
  profile: option(z.boolean(), {
    topic: 'Reports',
    help: 'print the time of every kernel at the end',
    who: 'alone',
  }),
  // A coordinator serves its page itself.
  watch: option(name, {
    topic: 'Reports',
    value: '[host:port]',
    bare: '127.0.0.1:0',
    help: 'serve a page that shows the run; without a value at 127.0.0.1, on a free port',
    check: (text) => void listenAddress(text, '--watch'),
    who: 'alone',
  }),
} as const;
