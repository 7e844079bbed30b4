/** Writes the documentation that is generated from the built command line, as part of `npm run docs:cli`. */
import { writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { docsFiles } from '../dist/src/cli/docs.js';
import { createProgram } from '../dist/src/cli/program.js';

const docs = join(resolve(dirname(fileURLToPath(import.meta.url)), '..'), 'docs');
for (const [name, text] of Object.entries(docsFiles(createProgram(() => {})))) writeFileSync(join(docs, name), text);
