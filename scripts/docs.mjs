/** Writes the documentation that is generated from the built command line, as part of `npm run docs:cli`. */
import { writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cliPage, configSchemaText } from '../dist/src/cli/docs.js';
import { createProgram } from '../dist/src/cli/program.js';

const docs = join(resolve(dirname(fileURLToPath(import.meta.url)), '..'), 'docs');
writeFileSync(join(docs, 'cli.md'), cliPage(createProgram(() => {})));
writeFileSync(join(docs, 'config.schema.json'), configSchemaText());
