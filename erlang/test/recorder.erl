%% Writes down what OTP 29's data_publisher does, for `integration/trace` to compare ours with.
%%
%% Runs on a node `a` of OTP 29 and takes three more, `b`, `c` and `d`, where processes say what they're
%% told to: they play the scopes there. What they say is in recorder_cases. What is recorded is the real engine, with real connections: the
%% process of the scope is traced from its first instruction on.
%%
%% A transcript is text, one thing a line, each a word and Erlang terms:
%%
%%     % a comment
%%     start Module Options Me Nodes   the scope starts as Me; Nodes are connected already
%%     in Message                      the engine begins to handle this message, whole as it was sent
%%     out To Message                  it sends; To is a pid, an alias or {Name, Node}
%%     monitor Ref Pid                 it starts to watch a process
%%     demonitor Ref                   it stops
%%
%% What follows an `in` up to the next one is what the engine does because of it, in order; what follows
%% `start` is what it does first. Pids and references differ each time, so they're written as atoms that
%% are numbered as they show up: `'<b.1>'` is the first process of node b, `'#1'` the first reference.
%%
%% An `in` is taken from the call of the gen_server's callback, not from the arrival of the message: so
%% what comes between two of them belongs to the first.
-module(recorder).

-export([record/2]).
-export([start/2, up_before/1, up/1, down/2, puppets/2, kill/1, kill/2]).
-export([say/1, say/2, say_cast/1, update/1, update/2, subscribe/2, unsubscribe/2, call/2]).
-export([puppet/0, trace_to/1]).

%% How long anything here may take, in milliseconds.
-define(PATIENCE, 5000).

%% Runs a case and gives the transcript. `Nodes` are the names of b, c and d. They have this
%% module, and `a` has dp_names, recorder_cases and recorder_walk, too.
record(Case, Nodes) ->
    %% Else the scope's process has to ask for them.
    ok = code:ensure_modules_loaded([data_publisher, pg, dp_names, recorder_cases, recorder_walk]),
    {Pid, Monitor} = spawn_monitor(fun() -> exit({recorded, recorded(Case, Nodes)}) end),
    receive
        {'DOWN', Monitor, process, Pid, {recorded, Text}} -> Text;
        {'DOWN', Monitor, process, Pid, Reason} -> error({Case, Reason})
    end.

recorded(Case, Nodes) ->
    ok = net_kernel:monitor_nodes(true),
    put(nodes, maps:from_list(lists:zip([b, c, d], Nodes))),
    [disconnect(Node) || Node <- nodes()],
    [put({idle, Node}, idle(Node)) || Node <- Nodes],
    put(tracer, spawn_link(?MODULE, trace_to, [self()])),
    try
        recorder_cases:play(Case),
        delivered(),
        unicode:characters_to_binary([recorder_cases:about(Case), $\n | text(ask(lines))])
    after
        [erlang:trace(Pid, false, [all]) || Pid <- [get(scope)], Pid =/= undefined],
        erlang:trace_pattern({'_', '_', '_'}, false, []),
        [stop(Pid) || Pid <- [get(scope) | puppets()], is_pid(Pid), node(Pid) =:= node()],
        [exit(Pid, kill) || Pid <- puppets(), node(Pid) =/= node()],
        [disconnect(Node) || Node <- nodes()]
    end.

%% Processes of a node that we may need while we aren't connected to it.
idle(Node) ->
    connect(Node, erlang:monotonic_time(millisecond) + ?PATIENCE),
    Pids = [spawn(Node, ?MODULE, puppet, []) || _ <- lists:seq(1, 12)],
    disconnect(Node),
    Pids.

stop(Pid) ->
    Monitor = erlang:monitor(process, Pid),
    exit(Pid, kill),
    receive {'DOWN', Monitor, process, _, _} -> ok after ?PATIENCE -> exit({Pid, timeout}) end.

%%% Steps. Each returns when the engine has done what it does because of it

start(Module, Options) ->
    Scope = case Module of pg -> recorded_pg; dp_names -> recorded_names end,
    Nodes = lists:sort(nodes()),
    Tracer = get(tracer),
    Self = self(),
    {Starter, Monitor} = spawn_monitor(
        fun() ->
            trace_me(Tracer),
            {ok, Pid} = case Module of
                            pg -> data_publisher:start(Scope, pg, Options);
                            dp_names -> dp_names:start(Scope, Options)
                        end,
            erlang:trace(self(), false, [all]),
            Self ! {self(), Pid}
        end),
    receive
        {Starter, Pid} ->
            erlang:demonitor(Monitor, [flush]),
            put(scope, Pid),
            Options1 = maps:without([format, version], Options),
            Format = maps:with([format, version], Options),
            ask({started, {Scope, Module, maps:merge(Options1, Format), Pid, Nodes}, Starter});
        {'DOWN', Monitor, process, _, Reason} ->
            exit({start, Reason})
    after ?PATIENCE -> exit({start, timeout})
    end,
    delivered().

trace_me(Tracer) ->
    %% The message of a traced call, where a match specification makes one, stands for its arguments.
    One = [{['$1', '_'], [], [{message, '$1'}, {return_trace}]}],
    Call = [{['$1', '$2', '_'], [], [{message, {{'$1', '$2'}}}, {return_trace}]}],
    Watch = [{[process, '$1', '_'], [], [{message, '$1'}, {return_trace}]}],
    [1, 1, 1, 1, 1] =
        [erlang:trace_pattern(Function, Pattern, [])
         || {Function, Pattern} <- [{{data_publisher, handle_info, 2}, One},
                                    {{data_publisher, handle_cast, 2}, One},
                                    {{data_publisher, handle_call, 3}, Call},
                                    {{erlang, monitor, 3}, Watch},
                                    {{erlang, demonitor, 1}, [{['$1'], [], [{message, '$1'}]}]}]],
    1 = erlang:trace(self(), true, [call, arity, send, set_on_spawn, {tracer, Tracer}]).

%% A connection comes up. Before a scope starts, or for one that stands alone, that is all.
up_before(Name) ->
    #{Name := Node} = get(nodes),
    connect(Node, erlang:monotonic_time(millisecond) + ?PATIENCE).

up(Name) ->
    handling(1, fun() -> up_before(Name) end).

%% The other side may not have seen yet that the last one ended.
connect(Node, End) ->
    case net_kernel:connect_node(Node) of
        true ->
            receive {nodeup, Node} -> ok after ?PATIENCE -> exit({connect, Node}) end;
        false ->
            erlang:monotonic_time(millisecond) < End orelse exit({connect, Node}),
            receive after 10 -> connect(Node, End) end
    end.

%% A connection ends, and with it so many monitors.
down(Name, Monitors) ->
    #{Name := Node} = get(nodes),
    handling(1 + Monitors, fun() -> disconnect(Node) end).

disconnect(Node) ->
    true = erlang:disconnect_node(Node),
    receive {nodedown, Node} -> ok after ?PATIENCE -> exit({disconnect, Node}) end.

%% The process that the message is of says it to the scope; and then so many more messages come of it.
say(Message) ->
    say(Message, 0).

say(Message, More) ->
    Puppet = mouth_of(element(2, Message)),
    handling(1 + More, fun() -> Puppet ! {send, get(scope), Message} end).

say_cast(Message) ->
    Puppet = mouth_of(element(2, Message)),
    handling(1, fun() -> Puppet ! {send, get(scope), {'$gen_cast', Message}} end).

%% One that lives, on the same node: it may be a word of one that doesn't.
mouth_of(Pid) ->
    Key = {mouth, node(Pid)},
    case get(Key) of
        undefined ->
            [Mouth] = puppets(node(Pid), 1),
            put(Key, Mouth),
            Mouth;
        Mouth -> Mouth
    end.

update(Update) ->
    update(Update, 0).

update(Update, More) ->
    Caller = case get(caller) of
                 undefined -> [New] = puppets(a, 1), put(caller, New), New;
                 Known -> Known
             end,
    ok = call(Caller, {update, Update}, More).

subscribe(Pid, Key) -> call(Pid, {subscribe, Key}).

unsubscribe(Pid, Ref) -> call(Pid, {unsubscribe, Ref}).

call(Pid, Request) ->
    call(Pid, Request, 0).

call(Pid, Request, More) ->
    Scope = get(scope),
    Tag = make_ref(),
    handling(1 + More, fun() -> Pid ! {call, Scope, Request, self(), Tag} end),
    Reply = receive {Tag, Value} -> Value after ?PATIENCE -> exit({Request, timeout}) end,
    %% The engine's answer leaves after its function has returned.
    delivered(),
    Reply.

%% A process ends, which so many monitors report.
kill(Pid) ->
    kill(Pid, 1).

kill(Pid, Monitors) ->
    handling(Monitors, fun() -> stop(Pid) end).

%% Does it, and waits until the engine is through with so many more messages.
handling(Count, Do) ->
    Before = ask(handled),
    Do(),
    Tracer = get(tracer),
    Monitor = erlang:monitor(process, Tracer),
    Tracer ! {when_handled, Before + Count, Monitor, self()},
    receive
        {Monitor, handled} -> erlang:demonitor(Monitor, [flush]), ok;
        {'DOWN', Monitor, process, _, Reason} -> exit({tracer, Reason})
    after ?PATIENCE -> exit({not_handled, Count, lists:reverse(lists:sublist(ask(lines), 10))})
    end.

%% All that the scope did so far is with the tracer.
delivered() ->
    Ref = erlang:trace_delivered(get(scope)),
    receive {trace_delivered, _, Ref} -> ok after ?PATIENCE -> exit({trace_delivered, timeout}) end.

%%% Processes that do what they're told

puppets(Name, Count) ->
    Node = case get(nodes) of #{Name := Known} -> Known; _ when Name =:= a -> node(); _ -> Name end,
    [puppet(Node) || _ <- lists:seq(1, Count)].

puppet(Node) ->
    case get({idle, Node}) of
        [Pid | Rest] ->
            put({idle, Node}, Rest);
        _ ->
            Pid = spawn(Node, ?MODULE, puppet, [])
    end,
    put(puppets, [Pid | puppets()]),
    Pid.

%% All that were used.
puppets() ->
    case get(puppets) of undefined -> []; Pids -> Pids end.

puppet() ->
    receive
        {send, To, Message} -> To ! Message, puppet();
        {call, To, Request, From, Tag} -> From ! {Tag, gen_server:call(To, Request, infinity)}, puppet();
        _ -> puppet()
    end.

%%% The tracer

ask(Question) ->
    Tracer = get(tracer),
    Monitor = erlang:monitor(process, Tracer),
    Tracer ! {ask, Question, Monitor, self()},
    receive
        {Monitor, Answer} -> erlang:demonitor(Monitor, [flush]), Answer;
        {'DOWN', Monitor, process, _, Reason} -> exit({tracer, Reason})
    after ?PATIENCE -> exit({tracer, timeout})
    end.

%% Collects until its recorder ends. Lines are the latest first.
trace_to(Recorder) ->
    %% Until it's known which process is the scope, all is kept as it came.
    receive
        {ask, {started, Start, Starter}, Ref, Recorder} ->
            Recorder ! {Ref, ok},
            {_, _, _, Pid, _} = Start,
            collect(#{scope => Pid, starter => Starter, handled => 0, waiting => none, monitoring => none,
                      lines => [{start, Start}]});
        {ask, lines, Ref, Recorder} ->
            Recorder ! {Ref, []},
            trace_to(Recorder)
    end.

collect(State) ->
    #{scope := Scope, starter := Starter, handled := Handled, lines := Lines} = State,
    receive
        {trace, Scope, call, {data_publisher, handle_info, 2}, Message} ->
            collect(State#{lines := [{in, Message} | Lines]});
        {trace, Scope, call, {data_publisher, handle_cast, 2}, Message} ->
            collect(State#{lines := [{in, {'$gen_cast', Message}} | Lines]});
        {trace, Scope, call, {data_publisher, handle_call, 3}, {Request, From}} ->
            collect(State#{lines := [{in, {'$gen_call', From, Request}} | Lines]});
        {trace, Scope, return_from, {data_publisher, _, _}, _} ->
            collect(tell(State#{handled := Handled + 1}));
        {trace, Scope, call, {erlang, monitor, 3}, Pid} ->
            collect(State#{monitoring := Pid});
        {trace, Scope, return_from, {erlang, monitor, 3}, Ref} ->
            #{monitoring := Pid} = State,
            collect(State#{monitoring := none, lines := [{monitor, Ref, Pid} | Lines]});
        {trace, Scope, call, {erlang, demonitor, 1}, Ref} ->
            collect(State#{lines := [{demonitor, Ref} | Lines]});
        {trace, Scope, Send, _, Starter} when Send =:= send; Send =:= send_to_non_existing_process ->
            collect(State);
        {trace, Scope, Send, Message, To} when Send =:= send; Send =:= send_to_non_existing_process ->
            collect(State#{lines := [{out, To, Message} | Lines]});
        {trace, Starter, _, _, _} ->
            collect(State);
        {trace, Starter, _, _} ->
            collect(State);
        {when_handled, Count, Ref, From} ->
            collect(tell(State#{waiting := {Count, Ref, From}}));
        {ask, handled, Ref, From} ->
            From ! {Ref, Handled},
            collect(State);
        {ask, lines, Ref, From} ->
            From ! {Ref, lists:reverse(Lines)},
            collect(State);
        Other ->
            exit({unexpected, Other})
    end.

tell(State = #{waiting := {Count, Ref, From}, handled := Handled}) when Handled >= Count ->
    From ! {Ref, handled},
    State#{waiting := none};
tell(State) ->
    State.

%%% Text

text(Lines) ->
    {Text, _} = lists:mapfoldl(fun line/2, #{}, Lines),
    Text.

line({start, {Scope, Module, Options, Me, Nodes}}, Names) ->
    words(start, [Scope, Module, Options, Me, Nodes], Names);
line({in, Message}, Names) ->
    {Text, Named} = words(in, [Message], Names),
    {[$\n, Text], Named};
line({out, To, Message}, Names) ->
    words("  out", [To, Message], Names);
line({monitor, Ref, Pid}, Names) ->
    words("  monitor", [Ref, Pid], Names);
line({demonitor, Ref}, Names) ->
    words("  demonitor", [Ref], Names).

words(Word, Terms, Names) ->
    {Named, NewNames} = lists:mapfoldl(fun named/2, Names, Terms),
    {io_lib:format("~ts~ts~n", [Word, [io_lib:format(in_order(), [Term]) || Term <- Named]]), NewNames}.

%% With the keys of maps in order, which OTP 25 can't: it compiles this, too, and looks only at formats it sees.
in_order() -> " ~0ktp".

%% The term with an atom for each pid and reference.
named(Pid, Names) when is_pid(Pid) ->
    [Short, _] = string:split(atom_to_list(node(Pid)), "@"),
    name(Pid, Short, fun(N) -> lists:concat(["<", Short, ".", N, ">"]) end, Names);
named(Ref, Names) when is_reference(Ref) ->
    name(Ref, reference, fun(N) -> lists:concat(["#", N]) end, Names);
named([Head | Tail], Names) ->
    {NamedHead, Names1} = named(Head, Names),
    {NamedTail, Names2} = named(Tail, Names1),
    {[NamedHead | NamedTail], Names2};
named(Tuple, Names) when is_tuple(Tuple) ->
    {List, NewNames} = named(tuple_to_list(Tuple), Names),
    {list_to_tuple(List), NewNames};
named(Map, Names) when is_map(Map) ->
    {List, NewNames} = named(lists:sort(maps:to_list(Map)), Names),
    {maps:from_list(List), NewNames};
named(Term, Names) ->
    {Term, Names}.

name(Term, Kind, Text, Names) ->
    case Names of
        #{Term := Name} ->
            {Name, Names};
        _ ->
            N = maps:get({count, Kind}, Names, 0) + 1,
            Name = list_to_atom(Text(N)),
            {Name, Names#{Term => Name, {count, Kind} => N}}
    end.
