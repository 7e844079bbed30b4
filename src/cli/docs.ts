import type { Command, Option } from 'commander';
import { configSchemaOf } from '../run/config-file.js';
import { flagOf } from '../train/option-table.js';
import { BASE_OPTIONS, TRAIN_OPTION_NAMES, TRAIN_OPTIONS, type TrainOptions } from '../train/options.js';
import { DEFAULT_PRESET, PRESET_NAMES, PRESETS } from '../train/presets.js';
import { TRAINING_TABLES } from './train-options.js';
import { pathOf } from './usage.js';

/** The program's name in the page, however this process was started. */
const NAME = 'lantrain';
const TRAIN = `${NAME} train`;

const BENCH = 'bench';
const MADE =
  'This page is made from the commands themselves by the script `docs:cli` of package.json: change those, not this file.';

/** Returns the generated files of docs/: their text, by name. */
export function docsFiles(program: Command): Record<string, string> {
  const commands = program.commands.filter((command) => command.name() !== BENCH);
  const benches = program.commands.filter((command) => command.name() === BENCH);
  const page = (...paragraphs: readonly string[]) => `${paragraphs.join('\n\n')}\n`;
  const sections = (of: readonly Command[]) => of.flatMap((command) => sectionsOf(command, program));
  return {
    'cli.md': page(
      '# The command line',
      'For whoever runs lantrain: every command and every option of it, as `--help` has them.',
      MADE,
      ['| Exit code | Meaning |', '| --- | --- |', ...EXIT_CODES].join('\n'),
      [
        ...commands.map((command) => linkTo(command)),
        ...benches.map((command) => linkTo(command, 'cli-bench.md')),
        '- [What the presets set](presets.md), what a resumed run may be given anew, and files of options.',
      ].join('\n'),
      ...sections(commands),
    ),
    'cli-bench.md': page(
      '# The benchmarks of the command line',
      'For whoever measures: all commands below `bench`. What they have measured is in [benchmarks.md](benchmarks.md).',
      MADE,
      ...sections(benches),
    ),
    'presets.md': page(
      '# Presets and files of options',
      'For whoever chooses the settings of a run.',
      MADE,
      '## Presets',
      `What a preset sets. Every other option has its default; options that are given win over both. A run without \`--preset\` has \`${DEFAULT_PRESET}\`'s settings: \`--help\` shows those.`,
      presetTable(),
      '## Going on with a run',
      `A run that is resumed has the options that it was begun with. These may be given anew, as no bit depends on them: ${freeOptions()}. Of the data, that is the place: the text must be the same. A run with a learning rate that does not fall may also be made longer.`,
      '## A file of options',
      FILE_OF_OPTIONS,
    ),
    'config.schema.json': schemaText(),
  };
}

function linkTo(command: Command, page = ''): string {
  return `- [\`${nameOf(command)}\`](${page}#${anchorOf(nameOf(command))}): ${command.description()}`;
}

/** The schema of a file of options, an option a line. */
function schemaText(): string {
  const { properties, ...rest } = configSchemaOf(Object.values(TRAINING_TABLES)) as { properties: object };
  const lines = (of: object) =>
    Object.entries(of).map(([name, value]) => `${JSON.stringify(name)}: ${JSON.stringify(value)}`);
  const options = lines(properties).map((line) => `    ${line}`);
  const others = lines(rest).map((line) => `  ${line}`);
  return `{\n${[...others, `  "properties": {\n${options.join(',\n')}\n  }`].join(',\n')}\n}\n`;
}

const EXIT_CODES = [
  '| 0 | done |',
  '| 1 | failed; one line says what, where and what to do |',
  '| 2 | the command line is wrong |',
  '| 130 | stopped by Ctrl-C, with a checkpoint where a run has begun |',
];

const FILE_OF_OPTIONS = `\`train\`, \`coordinator\` and \`demo\` take options from a JSON file as well, by their names: \`--micro-batch\` is
\`microBatch\`, a switch is \`true\` or \`false\`.

\`\`\`json
{ "$schema": "./config.schema.json", "preset": "gpt2", "data": "my-texts", "microBatch": 2, "tie": false }
\`\`\`

\`\`\`sh
${TRAIN} --config options.json --steps 1000
\`\`\`

Options on the command line win over the file. [config.schema.json](config.schema.json) tells an editor what a file may
hold. The \`config.json\` of a run is such a file, too: it begins a run with the same options, kernel plan and first weights.`;

function nameOf(command: Command): string {
  return [NAME, ...pathOf(command)].join(' ');
}

function anchorOf(name: string): string {
  return name.replaceAll(' ', '-');
}

function sectionsOf(command: Command, program: Command): string[] {
  const shared = command.options.filter((option) => isOfTrain(option, command, program));
  const own = command.options.filter((option) => !shared.includes(option));
  const headings = new Set(own.map(headingOf));
  const args = command.registeredArguments;
  const flags = shared.map(({ long }) => `\`${long}\``).join(', ');
  return [
    `## ${nameOf(command)}`,
    `${capital(command.description())}.`,
    `\`\`\`\n${nameOf(command)} ${command.usage()}\n\`\`\``,
    ...(args.length > 0
      ? [
          table(
            'Argument',
            args.map((one) => [one.name(), one.description]),
          ),
        ]
      : []),
    ...[...headings].map((heading) => table(heading, own.filter((one) => headingOf(one) === heading).map(rowOf))),
    ...(shared.length > 0
      ? [`Options of [\`${TRAIN}\`](${command.parent?.name() === BENCH ? 'cli.md' : ''}#${anchorOf(TRAIN)}): ${flags}.`]
      : []),
    ...command.commands.flatMap((one) => sectionsOf(one, program)),
  ];
}

/** Whether an option is the same as that of `train`. */
function isOfTrain({ flags, description }: Option, command: Command, program: Command): boolean {
  const train = program.commands.find((one) => one.name() === 'train');
  if (train === undefined || command === train) return false;
  return train.options.some((option) => option.flags === flags && option.description === description);
}

function headingOf({ helpGroupHeading = 'Options:' }: Option): string {
  return helpGroupHeading.replace(':', '');
}

function rowOf({ flags, description, defaultValue, mandatory }: Option): [string, string] {
  const value =
    defaultValue === undefined || defaultValue === true ? '' : ` (default: ${JSON.stringify(defaultValue)})`;
  return [flags, description + value + (mandatory ? ' (needed)' : '')];
}

function table(heading: string, rows: readonly (readonly [string, string])[]): string {
  const lines = rows.map(([name, text]) => `| \`${name}\` | ${cell(text)} |`);
  return [`| ${heading} | |`, '| --- | --- |', ...lines].join('\n');
}

function freeOptions(): string {
  const names = TRAIN_OPTION_NAMES.filter((name) => !TRAIN_OPTIONS[name].changesBits);
  const lengths = ['steps', 'epochs'];
  const flags = names.filter((name) => !lengths.includes(name)).map((name) => `\`${flagOf(name)}\``);
  return flags.join(', ');
}

function presetTable(): string {
  const names = TRAIN_OPTION_NAMES.filter((name) =>
    PRESET_NAMES.some((preset) => Object.hasOwn(PRESETS[preset], name)),
  );
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  const shown = (value: unknown) => (value === undefined ? '' : cell(String(value)));
  return [
    line(['Option', 'default', ...PRESET_NAMES]),
    line(['---', '---', ...PRESET_NAMES.map(() => '---')]),
    ...names.map((name) => {
      const { defaultWords } = TRAIN_OPTIONS[name];
      const presets = PRESET_NAMES.map((preset) => shown((PRESETS[preset] as Partial<TrainOptions>)[name]));
      return line([`\`${name}\``, shown(defaultWords ?? BASE_OPTIONS[name]), ...presets]);
    }),
  ].join('\n');
}

/** Escapes a text for a table of Markdown. */
function cell(text: string): string {
  return text.replaceAll('|', '\\|').replaceAll('<', '&lt;').replaceAll('\n', ' ');
}

function capital(text: string): string {
  return text[0].toUpperCase() + text.slice(1);
}
