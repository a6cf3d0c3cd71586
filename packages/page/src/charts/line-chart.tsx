import { useEffect, useId, useRef } from 'preact/hooks';
import uPlot from 'uplot';
import 'uplot/dist/uPlot.min.css';
import { ScrollRegion } from '../components/scroll-region.js';
import type { ChartLine } from './chart-line.js';
import { chartTable, lineText } from './chart-text.js';
import { numberText } from './number-text.js';
import { type ChartColors, useColors } from './use-colors.js';

export interface LineChartProps {
  title: string;
  lines: readonly ChartLine[];
}

const HEIGHT = 240;
/** Steps are whole numbers, and so are the marks of their axis. */
const STEP_INCREMENTS = [...Array(8).keys()].flatMap((power) => [1, 2, 5].map((digit) => digit * 10 ** power));
const TABLE_ROWS = 20;
/** With more lines, the sentences would take more space than the chart. */
const MAX_VISIBLE_TEXTS = 2;

/** Values over steps. The canvas is for the eye; a sentence for each line and a table say the same. */
export function LineChart({ title, lines }: LineChartProps) {
  const id = useId();
  return (
    <figure class="card chart" aria-labelledby={id}>
      <figcaption>
        <h3 id={id}>{title}</h3>
        {lines.map((line) => (
          <p key={line.label} class={lines.length > MAX_VISIBLE_TEXTS ? 'visually-hidden' : 'fine-print muted'}>
            {lineText(line)}
          </p>
        ))}
      </figcaption>
      <Canvas lines={lines} />
      <details>
        <summary>{title} as a table</summary>
        <ScrollRegion label={`Table of ${title}`}>
          <ChartTable title={title} lines={lines} />
        </ScrollRegion>
      </details>
    </figure>
  );
}

function Canvas({ lines }: { lines: readonly ChartLine[] }) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot | null>(null);
  const colors = useColors();
  const shape = lines
    .map(({ label, color, range, hasMarks }) => [label, color, range !== undefined, hasMarks])
    .join('|');

  useEffect(() => {
    const target = place.current!;
    const options = optionsOf(lines, colors, target.clientWidth);
    const created = new uPlot(options, dataOf(lines), target);
    plot.current = created;
    const observer = new ResizeObserver(() => created.setSize({ width: target.clientWidth, height: HEIGHT }));
    observer.observe(target);
    return () => {
      observer.disconnect();
      created.destroy();
      plot.current = null;
    };
  }, [shape, colors]);
  useEffect(() => plot.current?.setData(dataOf(lines)), [lines]);
  return <div class="chart-canvas" ref={place} aria-hidden="true" />;
}

function optionsOf(lines: readonly ChartLine[], colors: ChartColors, width: number): uPlot.Options {
  const series: uPlot.Series[] = [{ label: 'Step' }];
  const bands: uPlot.Band[] = [];
  for (const { label, color, range, hasMarks = false } of lines) {
    if (range !== undefined) {
      // The legend has no entry for them: see style/views.css.
      const edge: uPlot.Series = { class: 'chart-edge', points: { show: false }, spanGaps: true };
      bands.push({ series: [series.length, series.length + 1], fill: colors.band(color) });
      series.push(edge, edge);
    }
    series.push({
      label,
      stroke: colors.series(color),
      width: 2,
      spanGaps: true,
      points: { show: hasMarks, size: 7, fill: colors.series(color) },
      value: (_, value: number | null | undefined) => (value === null || value === undefined ? '–' : numberText(value)),
    });
  }
  const axis = {
    stroke: colors.text,
    grid: { stroke: colors.grid, width: 1 },
    ticks: { stroke: colors.grid, width: 1 },
  };
  return {
    width: Math.max(width, 100),
    height: HEIGHT,
    scales: { x: { time: false } },
    axes: [
      { ...axis, incrs: STEP_INCREMENTS, values: (_, ticks) => ticks.map((tick) => tick.toLocaleString('en-US')) },
      { ...axis, size: 64, values: (_, ticks) => ticks.map(numberText) },
    ],
    series,
    bands,
    cursor: { drag: { x: true, y: false } },
  };
}

function dataOf(lines: readonly ChartLine[]): uPlot.AlignedData {
  const tables = lines.map(({ steps, values, range }): uPlot.AlignedData => {
    const edges = range === undefined ? [] : [[...range.max], [...range.min]];
    return [[...steps], ...edges, [...values]];
  });
  return tables.length === 0 ? [[]] : uPlot.join(tables);
}

function ChartTable({ title, lines }: LineChartProps) {
  const { steps, values } = chartTable(lines, TABLE_ROWS);
  return (
    <table class="plain-table">
      <caption class="visually-hidden">{title} by step</caption>
      <thead>
        <tr>
          <th scope="col">Step</th>
          {lines.map(({ label }) => (
            <th key={label} scope="col">
              {label}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {steps.map((step, row) => (
          <tr key={step}>
            <th scope="row">{step.toLocaleString('en-US')}</th>
            {values.map((column, index) => (
              <td key={lines[index]!.label}>{column[row] === null ? '–' : numberText(column[row]!)}</td>
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  );
}
