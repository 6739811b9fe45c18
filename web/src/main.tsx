import { render } from 'preact';

render(<h1>KohakuRiver</h1>, document.getElementById('app')!);
