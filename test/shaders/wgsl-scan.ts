/**
 * Finds in composed WGSL what portable arithmetic forbids (docs/determinism.md): operations whose bits a driver may choose,
 * and sums and products that a compiler could fuse or reorder. It knows as much of the language as shaders/ has.
 *
 * A line `// rule (c): exact products` among the comments before a function allows `acc + a * b` in it, because its products
 * are exact. A line `// rule (b): products with powers of two` allows products, which are exact as well.
 */
import {
  EXACT_PRODUCTS,
  isFloat,
  isInteger,
  joined,
  numberOf,
  POWERS_OF_TWO,
  Reader,
  scalarOf,
  TEMPLATES,
  type Value,
  vectorOf,
} from './wgsl-words.js';

/** The name of what is outside of functions. */
const MODULE = 'module';

/** What is sure whatever the driver: it gives one of its operands, or a value without rounding. */
const SURE = new Set(
  'abs min max clamp floor select bitcast all any workgroupUniformLoad subgroupShuffle subgroupBroadcast'.split(' '),
);
const PROTECTORS = new Set('keep keep4 settle settle4 rounded rounded4'.split(' '));
const OPERATORS = ['||', '&&', '|', '^', '&', '== !=', '< > <= >=', '<< >>', '+ -', '* / %'].map((ops) =>
  ops.split(' '),
);

interface Routine {
  readonly name: string;
  /** Rule (c). */
  readonly exact: boolean;
  /** Rule (b). */
  readonly scales: boolean;
  readonly entry: boolean;
  readonly calls: Set<string>;
  readonly found: string[];
}

/** The violations in the functions that entry points reach, or in all where there is no entry point. */
export function scanWgsl(source: string, options: { readonly without?: readonly string[] } = {}): string[] {
  const { without = [] } = options;
  const routines = new Scanner(source).scan();
  const byName = new Map(routines.map((routine) => [routine.name, routine]));
  const hasEntries = routines.some(({ name, entry }) => entry && name !== MODULE);
  const reached = new Set<Routine>();
  const visit = (routine: Routine | undefined) => {
    if (!routine || reached.has(routine)) return;
    reached.add(routine);
    for (const name of routine.calls) visit(byName.get(name));
  };
  for (const routine of routines) if ((!hasEntries || routine.entry) && !without.includes(routine.name)) visit(routine);
  return routines
    .filter((routine) => reached.has(routine))
    .flatMap(({ name, found }) => found.map((f) => `${name}: ${f}`));
}

class Scanner extends Reader {
  #scopes: Map<string, Value>[] = [new Map()];
  readonly #structs = new Map<string, Map<string, string>>();
  readonly #results = new Map<string, string>();
  #routines: Routine[] = [];
  /** The first reading only learns what is declared outside of functions, which may come after its use. */
  #isFirst = true;
  /** The declarations outside of functions. */
  #routine: Routine = { name: MODULE, exact: false, scales: false, entry: true, calls: new Set(), found: [] };

  constructor(source: string) {
    super(source);
    // Functions may be called before they are declared.
    for (const [, name, result] of source.matchAll(/^fn (\w+)\([^{]*?\)(?: -> ([\w<>, ]+))? \{/gm))
      this.#results.set(name, result ?? 'void');
  }

  scan(): Routine[] {
    this.#read();
    this.#isFirst = false;
    return this.#read();
  }

  #read(): Routine[] {
    this.next = 0;
    this.#routine.found.length = 0;
    this.#routines = [this.#routine];
    for (let exact = false, scales = false, entry = false; this.next < this.tokens.length; ) {
      const { text } = this.take();
      if (text.includes(EXACT_PRODUCTS)) exact = true;
      else if (text.includes(POWERS_OF_TWO)) scales = true;
      else if (text === '@') entry = this.attribute() === 'compute' || entry;
      else if (text === 'fn') {
        this.#function({ exact, scales, entry });
        [exact, scales, entry] = [false, false, false];
      } else if (text === 'struct') this.#struct();
      else if (text === 'alias') this.alias();
      else if (text === 'enable') while (this.take().text !== ';');
      else if (text === 'const_assert') this.#expression();
      else if (['var', 'const', 'override', 'let'].includes(text)) this.#declaration(text);
      else if (text !== ';') this.fail(`${text} outside of functions`);
    }
    return this.#routines;
  }

  /** `word`: the number of the word that is to blame. */
  #report(what: string, word = this.next - 1): void {
    const { at } = this.tokens[word];
    const found = `${what}: ${this.lines[at].replace(/\/\/.*/, '').trim()}`;
    if (!this.#routine.found.includes(found)) this.#routine.found.push(found);
  }

  #struct(): void {
    this.#structs.set(this.take().text, this.members('{', '}'));
  }

  #declaration(how: string): void {
    if (how === 'var' && this.has('<')) while (this.take().text !== '>');
    const name = this.take().text;
    let type = this.has(':') ? this.type() : undefined;
    const value = this.has('=') ? this.#stored(this.#expression()) : undefined;
    type ??= value?.type ?? '?';
    const constant = how === 'const' || how === 'override';
    this.#scopes.at(-1)?.set(name, { type, kind: 'plain', constant, powerOfTwo: how === 'const' && value?.powerOfTwo });
  }

  #function(marks: Pick<Routine, 'exact' | 'scales' | 'entry'>): void {
    const name = this.take().text;
    const outer = this.#routine;
    this.#routine = { name, ...marks, calls: new Set(), found: [] };
    this.#routines.push(this.#routine);
    this.#scopes.push(new Map());
    for (const [parameter, type] of this.members('(', ')')) this.#scopes[1].set(parameter, { type, kind: 'plain' });
    if (this.has('->')) {
      while (this.has('@')) this.attribute();
      this.type();
    }
    this.take('{');
    this.#block();
    this.#scopes.pop();
    this.#routine = outer;
  }

  #block(): void {
    this.#scopes.push(new Map());
    while (!this.has('}')) this.#statement();
    this.#scopes.pop();
  }

  #statement(): void {
    const { text } = this.take();
    if (text === '{') this.#block();
    else if (['let', 'var', 'const'].includes(text)) this.#declaration(text);
    else if (text === 'for') {
      this.#scopes.push(new Map());
      this.take('(');
      this.#statement();
      this.has(';');
      if (this.text !== ';') this.#expression();
      this.take(';');
      while (!this.has(')')) this.#assignment();
      this.take('{');
      this.#block();
      this.#scopes.pop();
    } else if (['if', 'while', 'switch'].includes(text)) this.#expression();
    else if (text === 'case') {
      do this.#expression();
      while (this.has(',') && this.text !== '{');
    } else if (text === 'return') {
      if (this.text !== ';') this.#stored(this.#expression());
    } else if (!['else', 'loop', 'continuing', 'default', 'break', 'continue', ';', ':'].includes(text)) {
      this.next--;
      this.#assignment();
    }
  }

  #assignment(): void {
    if (this.has('_')) {
      this.take('=');
      return void this.#expression();
    }
    const target = this.#unary();
    let { text } = this.take();
    if (text === '>') text += this.take('>=').text;
    if (text === '=') this.#stored(this.#expression());
    else if (/^(.|<<|>>)=$/.test(text)) this.#stored(this.#binary(text.slice(0, -1), target, this.#expression()));
    else if (!['++', '--', ';'].includes(text)) this.fail('an assignment is not understood');
  }

  /** A value that goes on its way: into a variable, a buffer, a function. */
  #stored(value: Value): Value {
    const { exact, scales } = this.#routine;
    const isSafe = scales && value.kind === 'product';
    const isFree = exact ? value.kind === 'sum' : value.kind !== 'plain';
    if (isFree && !isSafe) this.#report(`a ${value.kind} without keep or settle`);
    return { ...value, kind: 'plain' };
  }

  #expression(level = 0): Value {
    if (level === OPERATORS.length) return this.#unary();
    let left = this.#expression(level + 1);
    while (OPERATORS[level].includes(this.#operator())) {
      const operator = this.#operator();
      const word = this.next;
      this.next += operator === '>>' ? 2 : 1;
      left = this.#binary(operator, left, this.#expression(level + 1), word);
    }
    return left;
  }

  #operator(): string {
    const isShift = this.text === '>' && this.tokens[this.next + 1]?.text === '>';
    return isShift ? '>>' : this.text;
  }

  #binary(operator: string, a: Value, b: Value, word = this.next - 1): Value {
    if (/^([=!]=|[<>]=?|&&|\|\|)$/.test(operator)) return { type: 'bool', kind: 'plain' };
    const type = joined(a.type, b.type);
    const constant = a.constant && b.constant;
    if (!isFloat(type)) {
      if (!isInteger(type) && type !== 'bool' && !type.startsWith('vec'))
        this.#report(`${operator} of unknown types`, word);
      return { type, kind: 'plain', constant };
    }
    if (operator === '/' || operator === '%') this.#report(`${operator} of floats`, word);
    else if (constant) this.#report('float arithmetic between constants', word);
    if (operator === '*') {
      if (a.powerOfTwo || b.powerOfTwo) return { type, kind: (a.powerOfTwo ? b : a).kind };
      for (const { kind } of [a, b]) if (kind !== 'plain') this.#report(`a ${kind} feeds a product`, word);
      return { type, kind: 'product' };
    }
    const isChain = this.#routine.exact && b.kind === 'product' && a.kind !== 'sum';
    if (isChain) return { type, kind: 'chain' };
    for (const { kind } of [a, b]) if (kind !== 'plain') this.#report(`a ${kind} feeds a sum`, word);
    return { type, kind: 'sum' };
  }

  #unary(): Value {
    if (this.has('-')) return this.#unary();
    if (this.has('!') || this.has('~') || this.has('&') || this.has('*')) return this.#unary();
    let value = this.#primary();
    for (;;) {
      if (this.has('[')) {
        this.#expression();
        this.take(']');
        const { type } = value;
        value = {
          type: type.startsWith('array<') ? type.slice(6).replace(/,[^,>]*>$|>$/, '') : scalarOf(type),
          kind: 'plain',
        };
      } else if (this.has('.')) {
        const member = this.take().text;
        const declared = this.#structs.get(value.type)?.get(member);
        value = { ...value, type: declared ?? vectorOf(scalarOf(value.type), member.length), powerOfTwo: false };
      } else return value;
    }
  }

  #primary(): Value {
    const { text } = this.take();
    if (text === '(') {
      const value = this.#expression();
      this.take(')');
      return value;
    }
    if (/^[\d.]/.test(text)) return numberOf(text);
    if (text === 'true' || text === 'false') return { type: 'bool', kind: 'plain', constant: true };
    if (!/^\w+$/.test(text)) this.fail(`${text} in an expression`);
    const isTemplate = TEMPLATES.has(text) && this.text === '<';
    let result = this.named(text);
    if (text === 'bitcast') {
      this.take('<');
      result = this.type();
      this.take('>');
    } else if (isTemplate) {
      this.next--;
      result = this.type();
    }
    if (this.has('(')) return this.#call(text, result);
    const known = this.#scopes.findLast((scope) => scope.has(text))?.get(text);
    if (known === undefined && !this.#isFirst) this.fail(`${text} is not declared`);
    return known ?? { type: '?', kind: 'plain' };
  }

  #call(name: string, type: string): Value {
    const values: Value[] = [];
    while (!this.has(')')) {
      values.push(this.#expression());
      this.has(',');
    }
    this.#routine.calls.add(name);
    if (PROTECTORS.has(name)) return { type: this.#results.get(name) ?? values[0].type, kind: 'plain' };
    const kind = name === 'select' && values.some((value) => value.kind === 'chain') ? 'chain' : 'plain';
    const constant = values.every((value) => value.constant);
    const powerOfTwo = values.length === 1 && values[0].powerOfTwo;
    for (const value of values) this.#stored(value);
    const own = this.#results.get(name);
    if (own !== undefined) return { type: this.named(own), kind: 'plain' };
    if (isFloat(type) || isInteger(type) || type === 'bool' || /^(vec|array)/.test(type) || this.#structs.has(type))
      return { type: /^vec[234]$/.test(type) ? `${type}${values[0].type[0]}` : type, kind, constant, powerOfTwo };
    const floats = values.some((value) => isFloat(value.type) || value.type === '?');
    if (floats && !SURE.has(name) && !/^(atomic|textureBarrier|arrayLength)/.test(name))
      this.#report(`${name} of floats`);
    if (name === 'arrayLength') return { type: 'u32', kind: 'plain' };
    if (name === 'all' || name === 'any') return { type: 'bool', kind: 'plain' };
    const result = values.slice(0, name === 'select' ? 2 : undefined).reduce((a, b) => joined(a, b.type), 'int');
    return { type: result, kind, constant: constant && values.length > 0 };
  }
}
