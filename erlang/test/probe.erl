%% A node that does what a test says, over a channel of its own.
%%
%% The test harness is told of nothing by way of the distribution, which is what it tests: a socket carries
%% Erlang expressions to the node and their values, as text, back. Each expression runs in a process of its
%% own and with a deadline, so one that hangs is reported and the next one still runs. When the socket
%% closes, the node halts at once: a test that was killed leaves no node behind.
%%
%% Requests are `<<Id:64, Kind, Rest/binary>>`, replies `<<Id:64, Status, Text/binary>>`, each in a packet
%% with a length of four bytes; see request/4 for the kinds and reply/4 for the states.
%%
%% The second half is for use in expressions: scopes of pg, members and subscribers of them.
-module(probe).

-export([serve/1]).
-export([start_scope/1, kill_scope/1, view/1, plain/1]).
-export([collector/0, member/2, members/3, messages/1, stop/1]).
-export([subscriber/1, subscriber/2, initial/1, events/1, followed/1]).

%% How long a function waits for a process of this node, in milliseconds.
-define(PATIENCE, 5000).

%%% The channel

%% Takes over a connected socket: `[binary, {packet, 4}, {active, false}]`.
serve(Socket) ->
    Server = spawn(fun() -> receive {go, Socket} -> init(Socket) end end),
    spawn(fun() -> halt_after(Server) end),
    ok = gen_tcp:controlling_process(Socket, Server),
    Server ! {go, Socket},
    ok.

%% A node that can't be controlled any more mustn't stay. But one that is going down by itself, which may
%% be why, shall have the time to say so.
halt_after(Server) ->
    Monitor = erlang:monitor(process, Server),
    receive {'DOWN', Monitor, process, _, _} -> ok end,
    receive after 3000 -> erlang:halt(1, [{flush, false}]) end.

init(Socket) ->
    %% Answers also when the node is kept busy.
    process_flag(priority, high),
    ok = inet:setopts(Socket, [{active, true}, {nodelay, true}]),
    Hello = [erlang:system_info(otp_release), $\s, atom_to_binary(node(), utf8)],
    ok = gen_tcp:send(Socket, Hello),
    loop(Socket, #{}, erl_eval:new_bindings()).

%% Running :: #{Worker => {Id, Monitor, Timer}}
loop(Socket, Running, Bindings) ->
    receive
        {tcp, Socket, <<Id:64, Kind, Rest/binary>>} ->
            loop(Socket, request(Kind, Id, Rest, {Socket, Running, Bindings}), Bindings);
        {done, Worker, Status, Text, NewBindings} ->
            Left = finish(Socket, Worker, Status, Text, Running),
            loop(Socket, Left, merge(Bindings, NewBindings));
        {late, Worker} ->
            Where = erlang:process_info(Worker, current_stacktrace),
            exit(Worker, kill),
            loop(Socket, finish(Socket, Worker, $t, text(Where), Running), Bindings);
        {'DOWN', _, process, Worker, Reason} ->
            Text = ["its process died: ", text(Reason)],
            loop(Socket, finish(Socket, Worker, $e, Text, Running), Bindings);
        {tcp_closed, Socket} ->
            erlang:halt(0, [{flush, false}]);
        {tcp_error, Socket, _} ->
            erlang:halt(0, [{flush, false}])
    end.

%% Evaluate `<<Milliseconds:32, Text/binary>>`: $e keeps what the expressions bind, $p doesn't.
request(Kind, Id, <<Milliseconds:32, Text/binary>>, {_, Running, Bindings})
  when Kind =:= $e; Kind =:= $p ->
    Server = self(),
    {Worker, Monitor} = spawn_monitor(fun() -> evaluate(Server, Kind, Text, Bindings) end),
    Timer = erlang:send_after(Milliseconds, self(), {late, Worker}),
    Running#{Worker => {Id, Monitor, Timer}};
%% Load a module.
request($l, Id, Beam, {Socket, Running, _}) ->
    Module = proplists:get_value(module, beam_lib:info(Beam)),
    case code:load_binary(Module, atom_to_list(Module) ++ ".erl", Beam) of
        {module, Module} -> reply(Socket, Id, $k, text(Module));
        {error, Reason} -> reply(Socket, Id, $e, text(Reason))
    end,
    Running;
%% Write "probe: all logged, Id" to the log, after all that was logged so far. It has to take the longest
%% way a report can take: the emulator's, for a process that nobody catches an error of.
request($f, Id, <<>>, {_, Running, _}) ->
    Meta = #{pid => self(), gl => group_leader(), time => erlang:system_time(microsecond),
             error_logger => #{tag => info_msg, emulator => true}},
    erlang:system_info(system_logger) ! {log, notice, "probe: all logged, ~w", [Id], Meta},
    Running.

%% The first end of a worker counts, there may be a second one on its way.
finish(Socket, Worker, Status, Text, Running) ->
    case maps:take(Worker, Running) of
        {{Id, Monitor, Timer}, Left} ->
            erlang:demonitor(Monitor, [flush]),
            _ = erlang:cancel_timer(Timer),
            reply(Socket, Id, Status, Text),
            Left;
        error ->
            Running
    end.

%% States: $k the value, $e what went wrong, $t where it was when its time was up.
reply(Socket, Id, Status, Text) ->
    ok = gen_tcp:send(Socket, [<<Id:64, Status>>, unicode:characters_to_binary(Text)]).

evaluate(Server, Kind, Text, Bindings) ->
    {Status, Answer, NewBindings} =
        try
            {ok, Tokens, _} = erl_scan:string(unicode:characters_to_list([Text, "."])),
            {ok, Expressions} = erl_parse:parse_exprs(Tokens),
            {value, Value, Bound} = erl_eval:exprs(Expressions, Bindings),
            {$k, text(Value), case Kind of $e -> Bound; $p -> erl_eval:new_bindings() end}
        catch
            Class:Reason:Stack ->
                Error = io_lib:format("~0tp:~0tp in ~0tp", [Class, Reason, Stack]),
                {$e, Error, erl_eval:new_bindings()}
        end,
    Server ! {done, self(), Status, Answer, NewBindings}.

%% Two expressions may run at the same time; what the earlier one bound stays bound.
merge(Bindings, NewBindings) ->
    lists:foldl(fun({Name, Value}, Merged) -> erl_eval:add_binding(Name, Value, Merged) end,
                Bindings, erl_eval:bindings(NewBindings)).

text(Term) -> io_lib:format("~0tp", [Term]).

%%% Scopes

%% Starts a scope of pg that nothing supervises and nothing is linked to.
start_scope(Scope) ->
    {ok, Pid} = pg:start(Scope),
    Pid.

%% Kills the process of a scope and returns when it's gone.
kill_scope(Scope) ->
    stop(whereis(Scope)).

%% All groups of a scope and their members on all nodes, `[{Group, [pid()]}]`, sorted. A process that
%% joined twice is there twice. Empty groups are left out: OTP 29 lists some.
view(Scope) ->
    bags([{Group, pg:get_members(Scope, Group)} || Group <- pg:which_groups(Scope)]).

bags(Groups) ->
    lists:sort([{Group, lists:sort(Members)} || {Group, Members} <- Groups, Members =/= []]).

%% The term with each pid as `{Node, Id, Serial}`, which is the same text on all nodes.
plain(Pid) when is_pid(Pid) ->
    [_, Id, Serial] = string:lexemes(pid_to_list(Pid), "<.>"),
    {node(Pid), list_to_integer(Id), list_to_integer(Serial)};
plain([Head | Tail]) ->
    [plain(Head) | plain(Tail)];
plain(Tuple) when is_tuple(Tuple) ->
    list_to_tuple(plain(tuple_to_list(Tuple)));
plain(Map) when is_map(Map) ->
    maps:from_list(plain(maps:to_list(Map)));
plain(Term) ->
    Term.

%%% Processes that note what they get

%% A process that keeps all messages sent to it.
collector() ->
    spawn(fun() -> collect([]) end).

%% A collector that is a member of a group.
member(Scope, Group) ->
    Pid = collector(),
    ok = pg:join(Scope, Group, Pid),
    Pid.

%% N collectors that join at once.
members(Scope, Group, N) ->
    Pids = [collector() || _ <- lists:seq(1, N)],
    ok = pg:join(Scope, Group, Pids),
    Pids.

%% All messages a collector got so far, in order.
messages(Pid) ->
    Monitor = erlang:monitor(process, Pid),
    Pid ! {?MODULE, Monitor, self()},
    receive
        {Monitor, Messages} -> erlang:demonitor(Monitor, [flush]), Messages;
        {'DOWN', Monitor, process, _, Reason} -> exit({Pid, Reason})
    after ?PATIENCE -> exit({Pid, timeout})
    end.

%% Kills a process and returns when it's gone.
stop(Pid) ->
    Monitor = erlang:monitor(process, Pid),
    exit(Pid, kill),
    receive {'DOWN', Monitor, process, _, _} -> ok after ?PATIENCE -> exit({Pid, timeout}) end.

collect(Messages) ->
    receive
        {?MODULE, Tag, From} -> From ! {Tag, lists:reverse(Messages)}, collect(Messages);
        Message -> collect([Message | Messages])
    end.

%%% Subscribers

%% A process that monitors a scope; it keeps the first view and all events.
subscriber(Scope) ->
    subscribe(fun() -> pg:monitor_scope(Scope) end).

%% The same for one group.
subscriber(Scope, Group) ->
    subscribe(fun() -> {Ref, Pids} = pg:monitor(Scope, Group), {Ref, #{Group => Pids}} end).

subscribe(Subscribe) ->
    Caller = self(),
    {Pid, Monitor} = spawn_monitor(
        fun() ->
            {Ref, Groups} = Subscribe(),
            Caller ! {self(), subscribed},
            collect([{Ref, initial, Groups}])
        end),
    receive
        {Pid, subscribed} -> erlang:demonitor(Monitor, [flush]), Pid;
        {'DOWN', Monitor, process, _, Reason} -> exit(Reason)
    after ?PATIENCE -> exit({Pid, timeout})
    end.

%% What a subscriber was told first, in the form of view/1.
initial(Pid) ->
    [{_Ref, initial, Groups} | _] = messages(Pid),
    bags(maps:to_list(Groups)).

%% What a subscriber was told since, `[{join | leave, Group, [pid()]}]`. Any other message is as it came.
events(Pid) ->
    [{Ref, initial, _} | Messages] = messages(Pid),
    [case Message of
         {Ref, Event, Group, Pids} -> {Event, Group, Pids};
         _ -> Message
     end || Message <- Messages].

%% The view that a subscriber's events lead to, in the form of view/1. Fails when a process leaves that
%% hadn't joined.
followed(Pid) ->
    Follow = fun({join, Group, Pids}, Groups) ->
                     Groups#{Group => Pids ++ maps:get(Group, Groups, [])};
                ({leave, Group, Pids}, Groups) ->
                     Members = maps:get(Group, Groups),
                     Left = Members -- Pids,
                     length(Left) =:= length(Members) - length(Pids) orelse
                         exit({left_without_joining, Group, Pids, Members}),
                     Groups#{Group => Left}
             end,
    bags(maps:to_list(lists:foldl(Follow, maps:from_list(initial(Pid)), events(Pid)))).
