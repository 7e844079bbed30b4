/** Measurements within the page, in Chromium. Each returns faults, of which a test expects none. */
import type { Page } from 'playwright-core';

/** A label that was drawn on a chart's canvas, in pixels of the canvas. */
export interface Label {
  readonly text: string;
  readonly left: number;
  readonly right: number;
  readonly x: number;
  readonly y: number;
  readonly canvasWidth: number;
  readonly canvasHeight: number;
}

/** Records every text that is drawn on a canvas, by chart. Call it before the page is loaded. */
export async function noteLabels(page: Page): Promise<void> {
  await page.addInitScript(`
    const draw = CanvasRenderingContext2D.prototype.fillText;
    const clear = CanvasRenderingContext2D.prototype.clearRect;
    CanvasRenderingContext2D.prototype.clearRect = function (...args) {
      this.canvas.labels = [];
      return clear.apply(this, args);
    };
    CanvasRenderingContext2D.prototype.fillText = function (text, x, y, ...rest) {
      const { a, e, f, d } = this.getTransform();
      const width = this.measureText(text).width * a;
      const center = a * x + e;
      const left = { center: center - width / 2, right: center - width, end: center - width }[this.textAlign] ?? center;
      (this.canvas.labels ??= []).push({ text, left, right: left + width, x: center, y: d * y + f,
        canvasWidth: this.canvas.width, canvasHeight: this.canvas.height });
      return draw.call(this, text, x, y, ...rest);
    };`);
}

export function labelsOf(page: Page, chart: string): Promise<Label[]> {
  return page.evaluate(`document.querySelector('#${chart} canvas').labels`);
}

/** Elements that are clipped by their surroundings, and buttons that are not fully visible. */
export function clipped(page: Page): Promise<string[]> {
  return page.evaluate(`(() => {
    const wrong = [];
    const name = (e) => e.tagName + (e.id ? '#' + e.id : '') + '.' + e.className + ' ' + e.textContent.slice(0, 30).trim();
    const { scrollWidth, clientWidth } = document.documentElement;
    if (scrollWidth > clientWidth) wrong.push('the page: ' + scrollWidth + ' of ' + clientWidth);
    for (const e of document.querySelectorAll('button, .card, .scroll, .figures, dialog[open], dialog[open] *')) {
      const box = e.getBoundingClientRect();
      if (box.width === 0 || e.closest('.unseen')) continue;
      if (e.matches('.scroll, .card, dialog, dialog section') && e.scrollWidth > e.clientWidth + 1)
        wrong.push(name(e) + ': ' + e.scrollWidth + ' of ' + e.clientWidth);
      const around = e.parentElement.closest('.scroll, .card, header, dialog section, dialog, body').getBoundingClientRect();
      if (box.left < around.left - 0.5 || box.right > around.right + 0.5) wrong.push(name(e) + ' reaches out');
    }
    return wrong;
  })()`);
}

/** Figures that take more than one line, or more than their width. */
export function wrapped(page: Page): Promise<string[]> {
  return page.evaluate(`[...document.querySelectorAll('#way, .figures dt, .figures dd, .key dt, .key dd, .workers td:not(.now-column, .drop), .workers .now')].flatMap((e) => {
    if (e.getBoundingClientRect().width === 0 || (e.id === 'way' && innerWidth <= 640)) return [];
    const range = document.createRange();
    range.selectNodeContents(e);
    const box = range.getBoundingClientRect();
    const around = e.parentElement.getBoundingClientRect();
    const lines = Math.round(box.height / parseFloat(getComputedStyle(e).lineHeight));
    return lines > 1 || box.right > around.right + 0.5 ? [e.textContent + ': ' + lines + ' lines'] : [];
  })`);
}

/** Words that are broken although they fit on a line. */
export function brokenWords(page: Page): Promise<string[]> {
  return page.evaluate(`[...document.querySelectorAll('td, th, dt, dd, p')].flatMap((e) =>
    [...e.childNodes].filter((node) => node.nodeType === 3).flatMap((node) =>
      [...node.data.matchAll(/[^\\s-]+/g)].flatMap(({ 0: word, index }) => {
        const range = document.createRange();
        range.setStart(node, index);
        range.setEnd(node, index + word.length);
        const lines = new Set([...range.getClientRects()].map(({ top }) => Math.round(top)));
        return word.length < 12 && lines.size > 1 ? [word] : [];
      })))`);
}

/** Column heads that are not aligned with their column: at its left, or at its right for numbers. */
export function headsBeside(page: Page): Promise<string[]> {
  return page.evaluate(`[...document.querySelectorAll('table')].flatMap((table) => {
    const heads = [...table.querySelectorAll('thead th')];
    const textBox = (e) => {
      const range = document.createRange();
      range.selectNodeContents(e);
      return range.getBoundingClientRect();
    };
    return [...table.querySelectorAll('tbody tr')].flatMap((row) =>
      heads.flatMap((head, i) => {
        const [above, below] = [textBox(head), textBox(row.children[i])];
        const isShown = head.getBoundingClientRect().width > 2 && getComputedStyle(head.closest('thead')).position !== 'absolute';
        if (!isShown || above.width < 2 || below.width === 0) return [];
        const isRight = getComputedStyle(row.children[i]).textAlign === 'right';
        const off = isRight ? above.right - below.right : above.left - below.left;
        return Math.abs(off) > 1 ? [head.textContent + ': ' + off.toFixed(1) + ' px beside ' + row.children[i].textContent] : [];
      }),
    );
  })`);
}

/**
 * Whether a chart has a colour (a custom property) in a part of its plot. The part's sides are fractions from 0 to 1.
 */
export function hasColor(
  page: Page,
  chart: string,
  color: string,
  part: { readonly left?: number; readonly right?: number; readonly top?: number; readonly bottom?: number },
): Promise<boolean> {
  const { left = 0, right = 1, top = 0, bottom = 1 } = part;
  return page.evaluate(`(() => {
    const canvas = document.querySelector('#${chart} canvas');
    const pen = document.createElement('canvas').getContext('2d');
    pen.fillStyle = getComputedStyle(document.body).getPropertyValue('${color}').trim();
    pen.fillRect(0, 0, 1, 1);
    const [r, g, b] = pen.getImageData(0, 0, 1, 1).data;
    const [whole, plot] = [canvas.getBoundingClientRect(), document.querySelector('#${chart} .u-over').getBoundingClientRect()];
    const scale = canvas.width / whole.width;
    const x = (share) => Math.round((plot.left - whole.left + share * plot.width) * scale);
    const y = (share) => Math.round((plot.top - whole.top + share * plot.height) * scale);
    const width = Math.max(1, x(${right}) - x(${left}));
    const height = Math.max(1, y(${bottom}) - y(${top}));
    const { data } = canvas.getContext('2d').getImageData(x(${left}), y(${top}), width, height);
    for (let i = 0; i < data.length; i += 4)
      if (data[i + 3] > 100 && Math.abs(data[i] - r) + Math.abs(data[i + 1] - g) + Math.abs(data[i + 2] - b) < 60) return true;
    return false;
  })()`);
}
