/* A log of any length: only the lines that are in sight are in the page. It sticks to its end until one scrolls away from it. */
import { useEffect, useLayoutEffect, useMemo, useRef, useState } from 'preact/hooks';
import { count } from '../lib/units.ts';
import { downloadUrl, LogFollower, type StreamName } from './log_follow.ts';

const LINE = 18;
const MARGIN = 20;

const PHASES = { opening: 'opening', none: 'not there yet', following: 'live', ended: 'the end', broken: 'connection broke, trying again', hidden: 'waits until it is in sight' };

/** The follower, and a number that counts its news. */
function useFollower(id: number, stream: StreamName, revision: string): [LogFollower, number] {
  const [turn, setTurn] = useState(0);
  const follower = useMemo(() => new LogFollower(id, stream, () => setTurn((n) => n + 1)), [id, stream]);
  useEffect(() => () => follower.stop(), [follower]);
  useEffect(() => follower.look(), [follower, revision]);
  return [follower, turn];
}

/** The line with what was searched for marked. */
function Marked({ text, wanted }: { text: string; wanted: string }) {
  if (!wanted) return <>{text}</>;
  const parts = [];
  const lower = text.toLowerCase();
  let from = 0;
  for (let at = lower.indexOf(wanted); at >= 0 && parts.length < 200; at = lower.indexOf(wanted, from)) {
    parts.push(text.slice(from, at), <mark>{text.slice(at, at + wanted.length)}</mark>);
    from = at + wanted.length;
  }
  return <>{[...parts, text.slice(from)]}</>;
}

interface LinesProps {
  follower: LogFollower;
  /** Another number: there is news, so it is drawn anew. */
  turn: number;
  wanted: string;
  at: number | undefined;
  sticks: boolean;
  onSticks: (sticks: boolean) => void;
}

function Lines({ follower, wanted, at, sticks, onSticks }: LinesProps) {
  const box = useRef<HTMLDivElement>(null);
  const [top, setTop] = useState(0);
  const { buffer } = follower;
  const tail = buffer.tail;
  const n = buffer.lines.length + (tail ? 1 : 0);
  useLayoutEffect(() => {
    if (sticks && box.current) box.current.scrollTop = n * LINE;
  });
  useLayoutEffect(() => {
    if (at !== undefined && box.current) box.current.scrollTop = Math.max(0, at * LINE - box.current.clientHeight / 2);
  }, [at]);
  const height = box.current?.clientHeight ?? 400;
  const first = Math.max(0, Math.floor((sticks ? Math.max(0, n * LINE - height) : top) / LINE) - MARGIN);
  const last = Math.min(n, first + Math.ceil(height / LINE) + 2 * MARGIN);
  const onScroll = (): void => {
    const b = box.current!;
    setTop(b.scrollTop);
    onSticks(b.scrollHeight - b.scrollTop - b.clientHeight < LINE);
  };
  const shown = [];
  for (let i = first; i < last; i++) {
    const text = i < buffer.lines.length ? buffer.lines[i]! : tail;
    shown.push(
      <div key={i + buffer.dropped} class={i === at ? 'line hit' : 'line'}>
        <Marked text={text} wanted={wanted} />
      </div>,
    );
  }
  return (
    <div class="log" ref={box} onScroll={onScroll} tabIndex={0} role="log" aria-live="off" aria-label="Output">
      <div style={{ height: `${n * LINE}px` }}>
        <div style={{ transform: `translateY(${first * LINE}px)` }}>{shown}</div>
      </div>
    </div>
  );
}

/** revision: changes when the task does. */
export function LogView({ id, revision, isOver }: { id: number; revision: string; isOver: boolean }) {
  const [stream, setStream] = useState<StreamName>('stdout');
  const [text, setText] = useState('');
  const [hit, setHit] = useState(0);
  const [sticks, setSticks] = useState(true);
  const [follower, turn] = useFollower(id, stream, revision);
  const { buffer, state } = follower;
  const hits = text ? buffer.find(text) : [];
  const at = hits.length ? hits[Math.min(hit, hits.length - 1)] : undefined;
  const step = (by: number): void => {
    setSticks(false);
    setHit((old) => (hits.length ? (Math.min(old, hits.length - 1) + by + hits.length) % hits.length : 0));
  };
  const isEmpty = buffer.lines.length === 0 && !buffer.tail;
  return (
    <section class="card" aria-label="Output">
      <header>
        <h2>Output</h2>
        <div class="tools">
          <div class="switch" role="group" aria-label="Stream">
            {(['stdout', 'stderr'] as const).map((name) => (
              <button key={name} type="button" aria-pressed={stream === name} onClick={() => setStream(name)}>
                {name}
              </button>
            ))}
          </div>
          <input
            type="search"
            data-search
            placeholder="Search"
            aria-label="Search in the output"
            value={text}
            onInput={(e) => {
              setText(e.currentTarget.value);
              setHit(0);
              setSticks(!e.currentTarget.value);
            }}
            onKeyDown={(e) => e.key === 'Enter' && step(e.shiftKey ? -1 : 1)}
          />
          {text && <span class="sub">{hits.length ? `${Math.min(hit, hits.length - 1) + 1} of ${count(hits.length)}` : 'not found'}</span>}
          <a class="button small" href={downloadUrl(id, stream)} download={`task-${id}.${stream}.log`}>
            Download
          </a>
        </div>
      </header>
      {state.phase === 'broken' && <p class="note warn">{state.problem}. Trying again in 3 s.</p>}
      {isEmpty && state.phase !== 'broken' ? (
        <p class="empty">{state.phase === 'ended' || isOver ? `Nothing was written to ${stream}.` : `Nothing on ${stream} yet.`}</p>
      ) : (
        <Lines key={stream} follower={follower} turn={turn} wanted={text.toLowerCase()} at={at} sticks={sticks} onSticks={setSticks} />
      )}
      <p class="hint log-foot">
        <span class={`pulse ${state.phase === 'following' ? 'live' : state.phase === 'broken' ? 'lost' : ''}`}>
          <i aria-hidden="true" />
          {PHASES[state.phase]}
        </span>
        {count(buffer.lines.length)} lines
        {buffer.dropped > 0 && `; the first ${count(buffer.dropped)} are not kept here, the download has all`}
        {!sticks && (
          <button type="button" class="small" onClick={() => setSticks(true)}>
            To the end
          </button>
        )}
      </p>
    </section>
  );
}
